"""Arguments that several commands take."""
import argparse
from collections.abc import Callable
from pathlib import Path

from coma_mm.files import check_writable
from coma_mm.processes import check_workers
from coma_mm.ranges import whole


def out_file(text: str) -> str:
    """A file that a command writes when its work is done."""
    if text:
        check_writable(text)
    return text


def out_folder(text: str) -> str:
    """A folder that a command writes to when its work is done."""
    if text:
        check_writable(text, is_folder=True)
    return text


def workers(low: int = 1, name: str = '--workers') -> Callable[[str], int]:
    """What reads a number of processes: `low` or more, and no more than a machine bears."""

    def read(text: str) -> int:
        number = whole(low)(text)
        check_workers(name, number)
        return number

    return read


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of training and testing, as people know them from the three libraries."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG_NAME)')
    add_config_arguments(parser)
    parser.add_argument('--verbose', action='store_true',
                        help='show all of the log file: the environment, the whole config, the hooks, …')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='how the processes were started: pytorch stands for torchrun')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


class Setting(argparse.Action):
    """An option that stands for a setting of the config, the same as `--cfg-options NAME=VALUE`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: str,
                 option_string: str | None = None) -> None:
        """Add it to `cfg_options`; a list has commas."""
        value = f'[{values}]' if self.dest == 'bands' and not values.isdecimal() else values
        namespace.cfg_options = [*(getattr(namespace, 'cfg_options', None) or ()), f'{self.dest}={value}']


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that change a config, for every command that reads one."""
    parser.add_argument('--data-root', metavar='PATH', help="folder of the data set, instead of the config's data_root")
    add_band_arguments(parser)
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='settings that replace those of the config; they are merged last')
    add_trust_argument(parser)


def add_band_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options on what images are, see `coma_mm.config.bands`; they go to `cfg_options`."""
    parser.add_argument('--bands', action=Setting, metavar='N|LIST',
                        help='for images of any bands and depth: how many bands they have, or which to read, by index from '
                        '0 or by name, as 0,1,3 or red,nir (docs/bands.md)')
    parser.add_argument('--moments', action=Setting, metavar='FILE.json',
                        help='the moments of these bands, from coma-mm check_data folder PATH --moments FILE.json')


def add_rgb_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that draw images of any bands."""
    parser.add_argument('--rgb', type=band_list, metavar='R,G,B',
                        help='of images of other bands: the three to look at, by place among those that the model sees, '
                        'from 0, or by name, as 3,1,0; one alone is grey (default: red, green and blue, or the first 3)')


def band_list(text: str) -> list[int | str]:
    """Indices and names of bands."""
    return [int(one) if one.isdecimal() else one for one in text.split(',')]


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of every command that reads a checkpoint."""
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='also read checkpoints and pickles that run code of their own; only for files whose author '
                        'you trust like a program\'s')


def add_probe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the commands share that look at frozen features."""
    parser.add_argument('config', metavar='CONFIG',
                        help='config of a classifier or a dense model, which names backbone, train and test data')
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='file with the weights of that backbone: pre-trained, fine-tuned, or exported')
    add_config_arguments(parser)
    parser.add_argument('--amp', action='store_true', help='compute the features in bf16')
    parser.add_argument('--out', type=out_file, metavar='FILE.json', help='write the metrics to a file')


def show_accuracies(found: dict[str, float]) -> str:
    """A line's end with the accuracies of a probe."""
    return (f'top-1 {found["top1"]:6.2f} %   top-5 {found["top5"]:6.2f} %   '
            f'mean of the classes\' top-1 {found["per_class"]:6.2f} %')


def add_collect_arguments(parser: argparse.ArgumentParser, name: str = '') -> None:
    """Add what the commands share that read runs, and write one file of a name, or several into a folder."""
    parser.add_argument('work_dirs', nargs='?', default='work_dirs', metavar='WORK_DIRS',
                        help='folder with runs, at any depth (default: %(default)s)')
    parser.add_argument('--out', type=out_file if name else out_folder,
                        metavar=f'FILE{Path(name).suffix}' if name else 'FOLDER',
                        help=f'default: {Path("WORK_DIRS/benchmark", name)}')


def given_again(args: argparse.Namespace, *names: str) -> list[str]:
    """Options with their values, for another process of the same command; those that are None are left out."""
    return [f'--{name.replace("_", "-")}={value}' for name in names if (value := getattr(args, name)) is not None]
