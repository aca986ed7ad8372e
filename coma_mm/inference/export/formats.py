"""The files that programs are exported to: ONNX, and PyTorch's own."""
import contextlib
import importlib
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as shapes_config

from coma_mm.errors import UserError, printable, shorten

from .exportable import Exportable

AXES = {0: 'batch', 2: 'height', 3: 'width'}
"""The dimensions of the images that may be of any length, if the model allows it."""
FACTS = 'coma_mm.json'
"""What a .pt2 file has its facts in, among its `extra_files`."""

Outputs = tuple[torch.Tensor, ...]


@dataclass
class Format:
    """A kind of file.

    Args:
        name (str): For people.
        packages (tuple[str, ...]): What it needs besides torch.
        dump (Callable): Takes a program, the names of its outputs, the names of free dimensions and facts; gives the bytes
            of the file.
        load (Callable): Takes these bytes; gives a function of the images.
    """
    name: str
    packages: tuple[str, ...]
    dump: Callable[[ExportedProgram, list[str], dict[int, str], dict[str, Any]], bytes]
    load: Callable[[bytes], Callable[[torch.Tensor], Outputs]]

    def check_packages(self, suffix: str) -> None:
        """See that the packages are there.

        Raises:
            UserError: Naming the extra to install.
        """
        for name in self.packages:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise UserError(f'exporting to {suffix} needs the package {name}, which cannot be imported ({error}); '
                                'run pip install "coma-mm[export]"') from error


def to_program(module: Exportable, image: torch.Tensor, free: dict[int, str]) -> ExportedProgram:
    """Have torch.export follow a module once, and make a program of what it did.

    Args:
        module (Exportable): The module.
        image (Tensor): An example of its input.
        free (dict[int, str]): The dimensions that may be of any length, and their names.

    Returns:
        ExportedProgram: The program.
    """
    with _quiet(), torch.no_grad():
        return torch.export.export(module, (image, ), strict=False,
                                   dynamic_shapes=dict(images={axis: Dim.DYNAMIC for axis in free}))


def _dump_onnx(program: ExportedProgram, outputs: list[str], free: dict[int, str], facts: dict[str, Any]) -> bytes:
    import onnx_ir
    with _quiet():
        written = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=['images'], output_names=outputs,
            dynamic_shapes=dict(images=free) if free else None)
    model = written.model
    for value in model.graph.outputs:  # numbers that depend on what is found
        if value.shape is not None:
            value.shape = onnx_ir.Shape('objects' if re.search(r'\bu\d', str(size)) else size for size in value.shape)
    model.producer_name = 'coma_mm'
    model.metadata_props.update({
        key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()})
    try:
        return written.model_proto.SerializeToString()
    except ValueError as error:  # protobuf's limit
        raise UserError('the model is larger than the 2 GB that an .onnx file can hold; export it to .pt2') from error


def _load_onnx(data: bytes) -> Callable[[torch.Tensor], Outputs]:
    import onnxruntime
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, settings, providers=['CPUExecutionProvider'])

    def run(images: torch.Tensor) -> Outputs:
        return tuple(map(torch.from_numpy, session.run(None, dict(images=images.numpy()))))

    return run


def _dump_pt2(program: ExportedProgram, outputs: list[str], free: dict[int, str], facts: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with _quiet():
        torch.export.save(program, file, extra_files={FACTS: json.dumps(facts)})
    return file.getvalue()


def _load_pt2(data: bytes) -> Callable[[torch.Tensor], Outputs]:
    module = torch.export.load(io.BytesIO(data)).module()

    def run(images: torch.Tensor) -> Outputs:
        with torch.no_grad():
            return module(images)

    return run


FORMATS = {
    '.onnx': Format('ONNX', ('onnx', 'onnxscript', 'onnxruntime'), _dump_onnx, _load_onnx),
    '.pt2': Format('torch.export', (), _dump_pt2, _load_pt2),
}


def missing_operator(error: BaseException) -> str | None:
    """The operator that ONNX lacks, if that is why an export failed."""
    found = (re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", str(one)) for one in _causes(error))
    return next((match[1] for match in found if match), None)


def explain(error: Exception, module: Exportable) -> UserError:
    """Why a model cannot be exported, in a line.

    Args:
        error (Exception): Of `to_program` or `Format.dump`.
        module (Exportable): The module.

    Returns:
        UserError: To be raised.
    """
    name = type(module.model).__name__
    if lacking := missing_operator(error):
        return UserError(f'cannot export {name}: ONNX has no operator for {lacking}, which it uses; export it to .pt2, or '
                         '--part backbone alone')
    cause = _causes(error)[-1]
    reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return UserError(printable(shorten(f'cannot export {name}: {reason}', 500)))


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what it came from, that last."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    return causes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export and its translation to ONNX tell their own developers.

    Sizes that are not known are not compared with 0 and 1, so that a batch of one image is a batch like others.
    """
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), shapes_config.patch(backed_size_oblivious=True):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
