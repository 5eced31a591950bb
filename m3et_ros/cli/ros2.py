"""The command `ros2 m3et`: an extension of ros2cli that hands its words on to the m3et command.

    ros2 m3et ask "What is on the table?"
    ros2 m3et --help

ros2cli finds the class by the entry point ros2cli.command, calls add_arguments with the parser of `ros2 m3et`, and then
main. It is not imported: ROS 2 brings it, and the wheels do not.
"""

from argparse import REMAINDER, ArgumentParser, Namespace


class M3etCommand:
    """Ask, view, record, evaluate and train M3ET, as the command m3et does."""

    NAME = 'm3et'
    EXTENSION_POINT_VERSION = '0.1'

    def add_arguments(self, parser: ArgumentParser, cli_name: str) -> None:
        """Take every word after `ros2 m3et` as it is.

        Args:
            parser: parser of this command.
            cli_name: 'ros2 m3et'.
        """
        # Without it argparse would answer --help and refuse options that come before a verb.
        parser.prefix_chars = ''
        parser.add_argument('words', nargs=REMAINDER)

    def main(self, *, parser: ArgumentParser, args: Namespace) -> int:
        """Run the m3et command.

        Args:
            parser: parser of `ros2`.
            args: its result; `words` are those after `ros2 m3et`.

        Returns:
            The exit code of m3et.
        """
        # Here, because `ros2 --help` loads every extension and must not wait for this one.
        from m3et_ros.cli.main import main

        return main(args.words)
