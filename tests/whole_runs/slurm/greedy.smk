# Two jobs whose first attempt needs more time, or more memory, than it asks for (see on_cluster.py).


rule all:
    localrule: True
    input:
        "slow.txt",
        "hungry.txt",


rule slow:
    output:
        "slow.txt",
    resources:
        mem_mb=500,
        runtime=lambda wc, attempt: 1 if attempt == 1 else 5,  # minutes
    shell:
        "if [ {resources.runtime} = 1 ]; then sleep 600; fi; echo {resources.runtime} > {output}"


rule hungry:
    output:
        "hungry.txt",
    resources:
        mem_mb=lambda wc, attempt: 600 * attempt,
        runtime=5,
    shell:
        "python -c 'import time; block = bytearray(800 << 20); time.sleep(8)'; echo {resources.mem_mb} > {output}"
