"""`snakemake`, asking Slurm every two seconds how its jobs are.

The plugin waits ten seconds longer after each answer that names no finished job, which no option changes.
"""

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 2, lambda self, seconds: None)

if __name__ == "__main__":
    main()
