"""Lines of a job."""

from uad.common.log import job_log


def test_each_line_begins_with_the_job_and_goes_to_stderr_once(capsys):
    job_log("score ddpm t2")
    say = job_log("score ddpm t2")
    say("50 % of {volumes}")
    said = capsys.readouterr()
    assert said.err == "[score ddpm t2] 50 % of {volumes}\n" and said.out == ""
