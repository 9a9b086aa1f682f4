"""What the tests of the command line share."""

import pytest

from dip_sci import cli


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit code, standard output, standard error on one line."""

    def call(*arguments):
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, " ".join(err.split())

    return call
