"""Checkpoints that are whole or not there: written beside, flushed, renamed; old ones go last."""
import logging
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from coma_mm.engine.models import serialize, unwrap
from coma_mm.errors import SharedError, choice
from coma_mm.files import is_full, write_whole


def running_statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that a model's normalisation layers update in the forward pass, by name."""
    names = ('running_mean', 'running_var', 'num_batches_tracked')
    return {name: buffer for name, buffer in model.named_buffers() if name.rpartition('.')[2] in names}


class _KeptUntilSaved(LocalBackend):
    """A file backend that notes what to remove, instead of removing it."""

    def __init__(self, outdated: list[str]):
        self.outdated = outdated

    def remove(self, filepath: str) -> None:
        self.outdated.append(filepath)

    def isdir(self, filepath: str) -> bool:
        """False, since no checkpoint is a folder and none is to be removed."""
        return False


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, where nothing is lost when saving fails or the run is killed while it saves.

    A checkpoint appears under its name once it is complete and on the disk; then `last_checkpoint` names it, and only
    then outdated ones are removed. `ComaRunner` takes this hook wherever a config says `CheckpointHook`.

    Args:
        on_error (str): What to do when a checkpoint cannot be written (disk full, folder read-only): 'continue' says so
            and goes on with the older checkpoints, and the run fails at its end if the last one could not be written;
            'stop' ends the run. Defaults to 'continue'.
        background (bool): Write in a thread: training waits for a copy of the tensors alone, and the next checkpoint for
            the last one's writing. It takes twice the checkpoint's size of memory meanwhile. Defaults to False.
        **kwargs: Arguments of mmengine's `CheckpointHook`.

    Raises:
        UserError: If `on_error` is neither, or a checkpoint cannot be written and the run stops for it: all processes do.
    """

    def __init__(self, *args: Any, on_error: str = 'continue', background: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.on_error = choice('WholeCheckpointHook: on_error', on_error, ('continue', 'stop'))
        self.writer = ThreadPoolExecutor(1) if background else None
        self.pending = None  # the writing that is under way
        self.outdated = []  # paths to remove once a newer checkpoint is whole
        self.failed = None  # why the latest checkpoint could not be written; known to all processes after `finish`
        self.remedy = None  # what helps against that; known likewise
        self.newest = None  # path of the newest checkpoint that is whole; on the main process
        self.saved = None  # what was done by then, as far as this start of the run has written it; on all processes

    def before_train(self, runner: Runner) -> None:
        """Prepare, and clear away what a killed run left unfinished."""
        # In a resumed run all of this is what its checkpoint says, which is data: numbers and names, not places.
        said = runner.message_hub.runtime_info
        kept = said.pop('keep_ckpt_ids', None)
        kept = [step for step in kept if type(step) is int and step >= 0] if isinstance(kept, (list, tuple)) else []
        surplus = max(0, len(kept) - self.max_keep_ckpts) if self.max_keep_ckpts > 0 else 0
        if kept:
            said['keep_ckpt_ids'] = kept[surplus:]  # mmengine would remove the others at once
        super().before_train(runner)
        self.file_backend = _KeptUntilSaved(self.outdated)
        self.outdated += [os.path.join(self.out_dir, self.filename_tmpl.format(step)) for step in kept[:surplus]]
        self.newest = self.last_ckpt = self._own(said.get('last_ckpt'))
        interrupted = self._own(said.pop('interrupted_ckpt', None))
        if interrupted:
            self.outdated.append(interrupted)
        self.best_ckpt_path = self._own(getattr(self, 'best_ckpt_path', None))
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._own(path)
        if is_main_process():
            note = Path(runner.work_dir, 'last_checkpoint')
            if not runner.iter:  # a new run: an older one's checkpoints are not its own
                note.unlink(missing_ok=True)
            elif runner._resume and runner._load_from:  # a restart before the next checkpoint is to go on from there, too
                write_whole(note, os.fspath(runner._load_from))
            regular = re.escape(self.filename_tmpl).replace(r'\{\}', r'\d+')
            for path in Path(self.out_dir).glob('*.tmp'):
                if re.fullmatch(rf'({regular}|stopped_\d+\.pth|best_.+\.pth)\.tmp', path.name):
                    path.unlink()

    def _own(self, path: Any) -> str | None:
        """The file of that name in our folder, if it is the name of a checkpoint that we write; else None."""
        name = os.path.basename(path) if isinstance(path, str) else ''
        numbers = map(int, re.findall('[0-9]{1,18}', name))
        regular = {self.filename_tmpl.format(number) for number in numbers}
        ours = (name in regular or re.fullmatch(r'stopped_[0-9]+\.pth', name)
                or name.startswith('best_') and any(name.endswith(f'_{one}') for one in regular))
        return os.path.join(self.out_dir, name) if ours else None

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float]) -> None:
        """Note that the training so far is validated, in the best checkpoint's companion too."""
        runner.message_hub.update_info('validated', runner.iter)
        super().after_val_epoch(runner, metrics)

    def after_train(self, runner: Runner) -> None:
        """Wait for the writing, and fail if it failed: the trained weights are nowhere then."""
        self.finish()
        if self.failed:
            raise SharedError(f'{self.failed}; training is done, but its end is not saved: {self.remedy}')
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, int]) -> None:
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                self.outdated.append(os.path.join(self.out_dir, self.filename_tmpl.format(self.keep_ckpt_ids.popleft())))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.last_ckpt = os.path.join(self.out_dir, self.filename_tmpl.format(step))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self.save(runner, os.path.basename(self.last_ckpt), meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping[str, float]) -> None:
        # The base class saves by itself, weights alone, and asks the file backend to remove the previous best one.
        outdated = list(self.outdated)
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            self.outdated[:] = outdated  # without the previous best one
            self._report(error, 'the best checkpoint')
        self.finish()

    def save(self, runner: Runner, name: str, meta: dict[str, int]) -> None:
        """Write a checkpoint to resume from; on all processes, of which the first writes.

        Args:
            runner (Runner): The run.
            name (str): Of the file in `out_dir`.
            meta (dict): With `epoch` and `iter`, what is done so far.
        """
        self.finish()
        self.saved = dict(meta)
        checkpoint = runner.collect_checkpoint(self.save_optimizer, self.save_param_scheduler, meta, bool(self.writer))
        if is_main_process():
            self._save(runner, os.path.join(self.out_dir, name), checkpoint)
        if not self.writer:
            self.finish()

    def _save(self, runner: Runner, path: str, checkpoint: dict[str, Any]) -> None:
        model = unwrap(runner.model)
        spoilt = [key for key, value in {**dict(model.named_parameters()), **running_statistics(model)}.items()
                  if not value.isfinite().all()]
        if spoilt:
            self._report(f'{len(spoilt)} tensors of the model are not finite ({spoilt[0]})', path)
        elif self.writer:
            self.pending = self.writer.submit(self._write, runner, path, checkpoint)
        else:
            self._write(runner, path, checkpoint)

    def save_interrupted(self, runner: Runner, meta: dict[str, int]) -> str:
        """Write a checkpoint of a run that is about to stop, to be removed when the next regular one is whole.

        Args:
            runner (Runner): The run.
            meta (dict): With `epoch` and `iter`, what is done so far.

        Returns:
            str: Its path.

        Raises:
            UserError: If it cannot be written; on all processes.
        """
        path = os.path.join(self.out_dir, f'stopped_{meta["iter"]}.pth')
        runner.message_hub.update_info('interrupted_ckpt', path)
        self.save(runner, os.path.basename(path), meta)
        self.finish()  # also since a launcher may end all processes as soon as one has ended
        if self.failed:
            raise SharedError(f'{self.failed}; go on from the older checkpoint with --resume')
        return path

    def finish(self) -> None:
        """Wait for a writing in the background; on all processes, which then know alike whether the last one failed.

        Raises:
            UserError: If it did, with `on_error='stop'`; on all processes.
        """
        if self.pending:
            pending, self.pending = self.pending, None
            pending.result()
        self.failed, self.remedy = all_gather_object((self.failed, self.remedy))[0]
        if self.failed:
            self.saved = None
        if self.failed and self.on_error == 'stop':
            raise SharedError(f'{self.failed}; the older checkpoints are whole')

    def _write(self, runner: Runner, path: str, checkpoint: dict[str, Any]) -> None:
        self.failed = None
        outdated, self.outdated[:] = self.outdated[:], []
        try:
            write_whole(path, serialize(checkpoint))
            write_whole(os.path.join(runner.work_dir, 'last_checkpoint'), path)
        except OSError as error:
            self.outdated += outdated
            self._report(error, path)
            return
        self.newest = path
        best = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for old in set(outdated) - best - {path}:
            if self._own(old) == old and os.path.isfile(old) and not os.path.islink(old):
                os.remove(old)

    def _report(self, reason: str | OSError, what: str) -> None:
        self.remedy = ('go on from an older checkpoint with --resume PATH and a lower learning rate, or with '
                       "dict(type='LossSpikeHook', action='rollback') in custom_hooks")
        if isinstance(reason, OSError):
            self.remedy = ('make room and go on with --resume' if is_full(reason) else
                           'see that this run, and no other, can write to its folder, and go on with --resume')
            reason = reason.strerror or reason
        self.failed = f'cannot write {what}: {reason}'
        if self.on_error == 'continue':
            print_log(f'{self.failed}; the older checkpoints are kept, training goes on', logger='current',
                      level=logging.ERROR)


def saver_of(runner: Runner) -> WholeCheckpointHook | None:
    """The hook that writes a run's checkpoints."""
    return next((hook for hook in runner.hooks if isinstance(hook, WholeCheckpointHook)), None)
