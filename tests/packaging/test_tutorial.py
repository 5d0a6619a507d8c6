# SPDX-License-Identifier: Apache-2.0
"""docs/tutorial.md, followed from its first command to its last by somebody who has nothing but Python and a shell.

Commands, files and outputs are read out of the page: lines with ``$`` in console blocks are typed, what follows is what must
be printed (``...`` stands for anything), and blocks with a caption are files. A command without output shown may print what it
likes; one with ``# fails`` behind it fails.
One thing is other than for a reader: pip finds qdevpy in a folder, as a wheel of this source tree, and not in an index.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from markdown_blocks import output_matches, read_blocks, read_commands

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/tutorial.md"
MOST_LINES = 60
END = "--- status"


class Reader:
    """Somebody with a shell, who counts what they type.

    :param home: where the shell begins, and its HOME; empty
    :param links: a folder in which pip looks before it asks an index
    """

    def __init__(self, home, links):
        self.typed = 0
        self.directory = home
        where = os.environ.get("PIP_FIND_LINKS", "")
        environment = {
            "HOME": str(home),
            "PATH": f"{sys.base_exec_prefix}/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            "PIP_FIND_LINKS": f"{links} {where}",
        }
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=home,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command):
        """Type COMMAND; what it printed.

        :raises AssertionError: it fails, or it does not and is to
        """
        self.typed += len(command.splitlines())
        # the pipe is the shell's input, which programs are not to read
        self._shell.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '\\n{END} %d %s\\n' $? \"$PWD\"\n")
        self._shell.stdin.flush()
        printed = []
        for line in self._shell.stdout:
            if line.startswith(END):
                status, directory = line.removeprefix(END).strip().split(" ", 1)
                self.directory = Path(directory)
                assert (status != "0") == command.endswith("# fails"), f"$ {command}\n{''.join(printed)}"
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"the shell ended at: {command}\n{''.join(printed)}")

    def write(self, path, text):
        """Type a file, which is there already; blank lines count as others do."""
        target = self.directory / path
        assert target.exists(), f"{path}: the page says that it is there"
        self.typed += len(text.splitlines())
        target.write_text(text)

    def leave(self):
        """End the shell."""
        self._shell.stdin.close()
        self._shell.stdout.close()
        self._shell.wait()


@pytest.fixture
def reader(wheel, tmp_path):
    reader = Reader(tmp_path, wheel.parent)
    yield reader
    reader.leave()


@pytest.mark.slow
@pytest.mark.kvm
@pytest.mark.timeout(900)
@pytest.mark.needs_host("kvm")
def test_tutorial_followed_in_an_empty_directory_ends_with_a_device_of_ones_own_in_a_guest(reader, capsys):
    start = time.monotonic()
    for block in read_blocks(PAGE):
        if "caption" in block.options:
            reader.write(block.options["caption"], block.text)
        elif block.language == "console":
            for command in read_commands(block):
                printed = reader.run(command.text)
                assert not command.output or output_matches(command.output, printed), (
                    f"{PAGE.name}:{block.line}: $ {command.text}\nthe page shows:\n{command.output}\nprinted was:\n{printed}"
                )
    minutes = (time.monotonic() - start) / 60
    with capsys.disabled():
        print(f"\ntutorial: {minutes:.1f} minutes, {reader.typed} lines typed")
    assert reader.typed <= MOST_LINES
