"""mmengine's runner, with what all runs of the toolkit share."""
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, is_distributed, is_main_process
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel, revert_sync_batchnorm
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS, RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, LogProcessor, Priority, Runner
from mmengine.visualization import Visualizer
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import distributed, nn
from torch.utils.data import DataLoader

from coma_mm.config_tree import type_name
from coma_mm.datasets.annotations import check_annotations, check_class_lists
from coma_mm.datasets.seeding import seed_dataloader
from coma_mm.datasets.usage import tell
from coma_mm.errors import Stopped, UserError, first_names
from coma_mm.files import remove_empty, write_whole
from coma_mm.processes import start_worker
from coma_mm.weights.safe_pickle import plain, restore_curves

from . import tracking, workers
from .agreement import check_agreement
from .explain import unknown_type
from .hooks.evaluation_model import EvaluationModelHook
from .hooks.stop import StopHook
from .models import compile_training, serialize, to_cpu, unwrap
from .optim.accumulation import BatchGroups, batches_per_update, is_auto, smaller_update, update
from .resume import OwnSettings
from .summary import place_lines
from .terminal import quieten

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
"""The default hooks that mmengine leaves out where a config has None for them; it refuses None for any other."""


@RUNNERS.register_module()
class ComaRunner(Runner):
    """mmengine's `Runner`, where in addition

    - every sample is a function of (seed, epoch, sample index), see `seed_dataloader`;
    - a run that was stopped, in the middle of an epoch too, ends with the same weights as one that was not: see
      `docs/reliability.md`;
    - checkpoints are written whole or not at all;
    - the folder of a run's logs is its own, also if another run starts in the same second, and so are its log and its
      values where one process has several runs;
    - several processes work without a GPU too (gloo);
    - on a GPU products of float32 matrices are computed in TF32, unless `env_cfg` says `tf32=False`, or
      `randomness.deterministic` is set;
    - the learning rate is scaled by the batch of one *update*: gradient accumulation counts;
    - with `optim_wrapper.accumulative_counts='auto'` an update sees `auto_scale_lr.base_batch_size` images whatever the
      number of processes, see `accumulation`: an iteration is then one update, of as many batches as it takes;
    - with `train_dataloader.num_workers='auto'` each process loads with its share of the machine's cores, see `workers`.

    Attributes:
        extends (bool): Whether a run that is resumed has another length than before, and its schedules follow.
        in_loop (bool): Whether the training, validation or test loop was entered.
        trained (bool): Whether an iteration of training was finished.
        trained_on (dict | None): What the checkpoint to test says of the data that it was trained on.
    """
    extends = False
    in_loop = False
    trained = False
    trained_on = None
    _loaded = {}  # of a checkpoint, while a run is resumed
    _logs = None  # the folder of logs that this run has made
    _seconds = set()  # those in which this process has begun runs
    _dumped = None  # the file of the config if this run has made it, and the time when

    def __init__(self, *args: Any, **kwargs: Any):
        try:
            super().__init__(*args, **kwargs)
        except Exception as error:
            error.runner = self  # which has written a part of its log
            raise

    def build_dataloader(self, dataloader: dict | DataLoader, seed: int | None = None,
                         diff_rank_seed: bool = False) -> DataLoader | BatchGroups:
        """Build a data loader with per-sample seeds; the run's config is left as its author wrote it."""
        split = next((split for split in ('train', 'val', 'test')
                      if dataloader is getattr(self, f'_{split}_dataloader')), None)
        for_training = split == 'train'
        if isinstance(dataloader, dict):
            if not dataloader.get('dataset'):
                raise UserError(f'{split}_dataloader has no dataset; expected the config of one')
            check_class_lists(dataloader['dataset'])
            dataloader = dict(dataloader, sampler=_copy(dataloader.get('sampler')))
            if dataloader.get('num_workers') == 'auto':
                dataloader['num_workers'], found = workers.loader_workers()
                self.logger.info(f"{split}_dataloader.num_workers='auto': {dataloader['num_workers']}, of {found}")
            seed_dataloader(dataloader)
        loader = Runner.build_dataloader(dataloader, seed=seed, diff_rank_seed=diff_rank_seed)
        check_annotations(loader.dataset, for_training)
        if split:
            tell(loader.dataset, split)
        loader.worker_init_fn = partial(start_worker, worker_init_fn=loader.worker_init_fn)
        batch = f'batch of batch_size={loader.batch_sampler.batch_size}'
        if for_training and is_auto(self.cfg) and self.accumulation > 1:
            loader = BatchGroups(loader, self.accumulation)
            batch = f'update of {self.images_per_update} images'
        if hasattr(loader.sampler, '__len__') and not len(loader):  # a sampler without a length has no end
            remedy = 'take a smaller batch_size, more data, or drop_last=False'
            if for_training and isinstance(dataloader, dict) and len(loader.sampler):
                remedy = smaller_update(self.cfg, self.world_size, len(loader.sampler))
            raise UserError(f'a data set of {len(loader.dataset)} samples ({len(loader.sampler)} for each process) gives no '
                            f'{batch} with drop_last=True; {remedy}')
        return loader

    def build_train_loop(self, loop: dict | BaseLoop) -> BaseLoop:
        """Build the loop, which trains on lists of batches if several make an update.

        An epoch-based one of mmengine becomes a `ResumableEpochLoop`.
        """
        if isinstance(loop, dict) and (loop.get('by_epoch') or type_name(loop) == 'EpochBasedTrainLoop'):
            loop = {**loop, 'type': 'ResumableEpochLoop'}
            loop.pop('by_epoch', None)
        if not isinstance(loop, BaseLoop) and is_auto(self.cfg) and self.accumulation > 1:
            self.model.train_step = partial(update, self.model.train_step)
        return super().build_train_loop(loop)

    def build_val_loop(self, loop: dict | BaseLoop) -> BaseLoop:
        """Build the loop; that of pre-training becomes a `TrainingPrecisionValLoop`, unless the config says `fp16`."""
        if isinstance(loop, dict) and type_name(loop) in ('', 'ValLoop') and 'fp16' not in loop and isinstance(
                unwrap(self.model), BaseSelfSupervisor):
            loop = {**loop, 'type': 'TrainingPrecisionValLoop'}  # in the scope of its data's transforms
        return super().build_val_loop(loop)

    def build_optim_wrapper(self,
                            optim_wrapper: dict | OptimWrapper | torch.optim.Optimizer) -> OptimWrapper | OptimWrapperDict:
        """Build the optimiser wrapper; 'auto' is for the runner to count.

        Raises:
            UserError: If there is no optimiser of the name in the config; mmengine looks it up without a check.
        """
        if isinstance(optim_wrapper, dict):
            _check_optimizer(optim_wrapper.get('optimizer'))
            if is_auto(self.cfg):
                optim_wrapper = dict(optim_wrapper, accumulative_counts=1)
        return super().build_optim_wrapper(optim_wrapper)

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: OptimWrapper) -> list:
        """Build the schedules of an optimiser, but for those that tiny data leave no iteration: half an epoch of one."""
        def has_time(one: Any) -> bool:
            if not isinstance(one, dict) or not one.get('convert_to_iter_based') or 'end' not in one:
                return True
            length = len(self.train_dataloader)
            return int(one.get('begin', 0) * length) < int(one['end'] * length)

        several = scheduler if isinstance(scheduler, (list, tuple)) else [scheduler]
        return super()._build_param_scheduler(list(filter(has_time, several)), optim_wrapper)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, with less noise on the terminal."""
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    def build_log_processor(self, log_processor: dict | LogProcessor) -> LogProcessor:
        """Build what forms the log's lines; mmengine's `LogProcessor` becomes a `ThroughputLogProcessor`."""
        if isinstance(log_processor, dict) and type_name(log_processor) in ('', 'LogProcessor'):
            log_processor = {**log_processor, 'type': 'ThroughputLogProcessor', '_scope_': 'mmengine'}
        return super().build_log_processor(log_processor)

    def _log_env(self, env_cfg: dict) -> None:
        """Log the environment and the config, for the log file, and then the run's first lines."""
        super()._log_env(env_cfg)
        for line in place_lines(self):
            self.logger.info(line)

    def build_visualizer(self, visualizer: dict | Visualizer | None = None) -> Visualizer:
        """Build the visualiser; that it cannot write its curves (disk full) does not stop the run."""
        if isinstance(visualizer, dict):  # configs name it alike, and by its name that of an earlier run would come
            for kind in (Visualizer, *Visualizer.__subclasses__()):
                kind._instance_dict.pop(visualizer.get('name'), None)
        visualizer = super().build_visualizer(visualizer)
        tracking.set_up(visualizer, self)
        visualizer.add_scalars = self._writing_if_possible(visualizer.add_scalars)
        return visualizer

    def _writing_if_possible(self, write: Callable[..., None]) -> Callable[..., None]:
        failed = False

        def write_if_possible(*args: Any, **kwargs: Any) -> None:
            nonlocal failed
            try:
                write(*args, **kwargs)
                failed = False
            except OSError as error:
                if not failed:
                    self.logger.error(f'cannot write the curves: {error.strerror or error}; training goes on')
                failed = True

        return write_if_possible

    def setup_env(self, env_cfg: dict) -> None:
        """Set the environment up; mmengine's own needs a GPU to start several processes."""
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            if self.launcher != 'pytorch':
                raise UserError(f'--launcher {self.launcher} needs a GPU; without one take torchrun '
                                '(--launcher pytorch)')
            distributed.init_process_group('gloo')
        super().setup_env(env_cfg)
        deterministic = (self.cfg.get('randomness') or {}).get('deterministic', False)
        if deterministic:  # read when cuBLAS starts; without it torch refuses matrix products
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        torch.backends.cuda.matmul.allow_tf32 = bool(env_cfg.get('tf32', not deterministic))
        self._make_logs()

    def _make_logs(self) -> None:
        """Make the folder of the run's logs; the second is moved on while the work_dir or this process has a run of it.

        mmengine looks a run's logger and its message hub up in the process, by the run's name and second: another run of
        both would write into this one's log, and log this one's last values as its own.
        """
        if is_main_process():
            while True:
                if self._timestamp not in self._seconds:
                    with suppress(FileExistsError):
                        os.mkdir(Path(self.work_dir, self._timestamp))
                        self._logs = Path(self.work_dir, self._timestamp)
                        break
                following = time.mktime(time.strptime(self._timestamp, '%Y%m%d_%H%M%S')) + 1
                self._timestamp = time.strftime('%Y%m%d_%H%M%S', time.localtime(following))
            self._seconds.add(self._timestamp)
        timestamps = [self._timestamp]
        broadcast_object_list(timestamps)
        self._timestamp, = timestamps

    def dump_config(self) -> None:
        """Write the config to the work_dir."""
        path = Path(self.work_dir, os.path.basename(self.cfg.filename or f'{self.timestamp}.py'))
        is_new = not path.exists()
        super().dump_config()
        if is_new and is_main_process():
            self._dumped = path, path.stat().st_mtime_ns

    def remove_logs(self) -> None:
        """Remove what the start of this run has written to be read: the files that it names, and folders left empty."""
        if self._dumped:
            path, written = self._dumped
            if path.exists() and path.stat().st_mtime_ns == written:  # a test beside this one may have written it anew
                path.unlink()
        if self._logs:
            curves, name = self._logs / 'vis_data', self._logs.name
            tensorboards = curves.glob(f'events.out.tfevents.*.{socket.gethostname()}.{os.getpid()}.*')
            for path in (*self._logs.glob(f'{name}*.log'), curves / 'config.py', curves / 'scalars.json',
                         curves / f'{name}.json', *tensorboards):
                path.unlink(missing_ok=True)
            remove_empty([curves / 'vis_image', curves, self._logs])

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes, on a CPU too."""
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)  # torch synchronises batch norm on GPUs only
            model_wrapper_cfg = dict(
                dict(find_unused_parameters=self.cfg.get('find_unused_parameters', False), broadcast_buffers=False),
                **(model_wrapper_cfg or {}))
            model_wrapper_cfg['device_ids'] = None
        return super().wrap_model(model_wrapper_cfg, model)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the default hooks but those that are None; two of mmengine's become ours, which do more."""
        hooks = {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in MMENGINE_HOOKS}
        for name, theirs, ours in (('checkpoint', dict(type='CheckpointHook', interval=1), 'WholeCheckpointHook'),
                                   ('runtime_info', dict(type='RuntimeInfoHook'), 'LateRuntimeInfoHook')):
            hook = hooks.get(name, theirs)
            if isinstance(hook, dict) and type_name(hook) == theirs['type']:
                hooks[name] = {**hook, 'type': ours, '_scope_': 'mmengine'}
        super().register_default_hooks(hooks)

    def register_hook(self, hook: Hook | dict, priority: str | int | Priority | None = None) -> None:
        """Register a hook; what is decided after a validation is decided before a checkpoint is written of it."""
        chosen = priority is not None or isinstance(hook, dict) and 'priority' in hook
        if type_name(hook) == 'EarlyStoppingHook' and not chosen:
            priority = 'LOW'
        super().register_hook(hook, priority)

    def _maybe_compile(self, target: str) -> None:
        """Compile, if the config says so, what `compile_training` compiles; mmengine would compile the whole step."""
        options = self.cfg.get('compile')
        if options is None or options is False:
            return
        model = unwrap(self.model)
        name = compile_training(model, **({} if options is True else options))
        self.logger.info(f'{type(model).__name__}.{name} is compiled: the first iterations take minutes')

    @property
    def accumulation(self) -> int:
        """Batches whose gradients make one update.

        Raises:
            UserError: If 'auto' does not come out even.
        """
        if is_auto(self.cfg):
            return batches_per_update(self.cfg, self.world_size)
        return getattr(self.optim_wrapper, '_accumulative_counts', 1)

    @property
    def iterations_per_update(self) -> int:
        """With 'auto' an iteration is an update, else it is a batch."""
        return 1 if is_auto(self.cfg) else self.accumulation

    @property
    def images_per_update(self) -> int:
        """Images that one update sees: processes × batch size × accumulated batches."""
        loader = self._train_dataloader
        batch_size = loader['batch_size'] if isinstance(loader, dict) else loader.batch_size
        return self.world_size * batch_size * self.accumulation

    def scale_lr(self, optim_wrapper: OptimWrapper | OptimWrapperDict, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rate linearly with the batch of one update (mmengine's ignores accumulation).

        Raises:
            UserError: If the config does not say which batch size the learning rate is for.
        """
        if not (auto_scale_lr or {}).get('enable'):
            return
        base = auto_scale_lr.get('base_batch_size')
        if not base:
            raise UserError('auto_scale_lr needs base_batch_size: the batch size that the learning rate is for')
        factor = self.images_per_update / base
        wrappers = optim_wrapper.values() if isinstance(optim_wrapper, dict) else [optim_wrapper]
        groups = [group for wrapper in wrappers for group in wrapper.param_groups]  # mmengine's, for the log, too
        before = max(group['lr'] for group in groups)
        for group in groups:
            group['lr'] *= factor
        self.logger.info(f'Learning rate scaled from {before:.4g} to {before * factor:.4g}: the config gives it for '
                         f'{base} images per update, this run has {self.images_per_update}')

    def load_checkpoint(self, filename: str, map_location: str | torch.device | Callable = 'cpu', strict: bool = False,
                        revise_keys: Sequence[tuple[str, str]] = (('^module.', ''), )) -> dict[str, Any]:
        """Load weights and say how many tensors matched; mmengine's own goes on in silence when none did.

        Raises:
            UserError: If nothing matches; where training is resumed, also if anything is missing or of another shape.
        """
        model = unwrap(self.model)
        if isinstance(model, BaseTTAModel):
            model = model.module
        own, at_start = model.state_dict(), not self._has_loaded
        checkpoint = super().load_checkpoint(filename, map_location, strict, revise_keys)
        checkpoint['meta'].pop('config', None)  # mmengine's resume would run it
        if self._resume:
            restore_curves(checkpoint['message_hub'])
        if at_start:  # else a hook reads weights alone
            self._loaded = {key: checkpoint.get(key) for key in ('gradients', 'early_stopping', 'param_schedulers')}
        weights = checkpoint.get('state_dict', checkpoint)
        for pattern, replacement in revise_keys:
            weights = {re.sub(pattern, replacement, name): value for name, value in weights.items()}
        unfit = [name for name, value in own.items() if name not in weights or weights[name].shape != value.shape]
        if any(name in weights for name in unfit):
            refused = _refused(model, weights)
            unfit = [name for name in unfit if name not in weights or f'size mismatch for {name}:' in refused]
        extra = [name for name in weights if name not in own]
        line = f'loaded {len(own) - len(unfit)} of {len(own)} tensors into {type(model).__name__} from {filename}'
        if unfit:
            line += f'; missing or of another shape there: {first_names(unfit)}'
        if extra:
            line += f'; no place here for {first_names(extra)}'
        if len(unfit) == len(own) or self._resume and (unfit or extra):
            raise UserError(f'{line}; the checkpoint is of another model' +
                            (': a run can be resumed with the same model alone' if self._resume else ''))
        self.logger.info(line)
        return checkpoint

    def train(self) -> nn.Module:
        """Train, then stop listening to the signals that end a run.

        Raises:
            UserError: If nothing would update CoMA's evaluation model.
        """
        model = unwrap(self.model)
        if getattr(model, 'evaluation', None) and not any(isinstance(hook, EvaluationModelHook) for hook in self.hooks):
            raise UserError(f"nothing updates the evaluation model of {type(model).__name__}: add "
                            "dict(type='EvaluationModelHook') to custom_hooks")
        stop = next((hook for hook in self.hooks if isinstance(hook, StopHook)), None)
        try:
            return super().train()
        except RuntimeError as error:
            if stop and 'DataLoader worker' in str(error):
                time.sleep(1)  # the signal that has reached them may be on its way here
            if stop and stop.reason and 'DataLoader worker' in str(error):
                # This may be the middle of an update, so nothing is saved.
                raise Stopped(f'stopped by {stop.reason}, with the loader\'s workers; go on with --resume') from error
            raise
        finally:
            if stop:
                stop.release()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint, also with the gradients that were accumulated for the next update.

        Raises:
            UserError: If what the checkpoint holds of the training does not fit this run.
        """
        try:
            # Built before a checkpoint is loaded, for what this run's own config says.
            self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
            if self.param_schedulers is not None:
                self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
            own = OwnSettings(self)
            super().resume(filename, *args, **kwargs)
            loaded, self._loaded = self._loaded, {}
            if not self.extends:
                own.check_schedules(loaded.get('param_schedulers'))
            self._check_epochs(filename)
            self._resume_gradients(filename, loaded.get('gradients'))
            self._resume_early_stopping(loaded.get('early_stopping') or [])
            if self.extends and self.iter > self.max_iters:
                raise UserError(f'--extend-to: {filename} was written after {self.iter} iterations, and the new end would '
                                f'be after {self.max_iters}; expected a longer run than it is')
            if self.extends:
                own.extend()
            for line in own.not_used():
                self.logger.warning(line)
            left = max(0, self.max_iters - self.iter)
            self.logger.info(f'{self.iter} of {self.max_iters} iterations are done, {left} are left')
        except UserError:
            raise
        except Exception as error:  # by where the two differ: other parameter groups, other schedules, ...
            raise UserError(f'cannot resume from {filename}: its state of training does not fit this run '
                            f'({type(error).__name__}: {" ".join(str(error).split())}); resume with the config of its '
                            'run, or take it as load_from without --resume') from error

    def _early_stopping(self) -> list[EarlyStoppingHook]:
        return [hook for hook in self.hooks if isinstance(hook, EarlyStoppingHook)]

    def _resume_early_stopping(self, states: list[dict[str, Any]]) -> None:
        """What the hooks know from the run so far; mmengine keeps it in the process alone."""
        for hook in self._early_stopping():
            for state in states:
                if state['monitor'] == hook.monitor:
                    hook.best_score, hook.wait_count = state['best_score'], state['wait_count']
            if hook.wait_count >= hook.patience:
                self.train_loop.stop_training = True

    def _check_epochs(self, filename: str) -> None:
        if isinstance(self.train_loop, EpochBasedTrainLoop):
            length = len(self.train_dataloader)
            if not 0 <= self.iter - self.epoch * length <= length:
                raise UserError(f'{filename} was written after {self.iter} iterations, in epoch {self.epoch + 1}, but an '
                                f'epoch of this run has {length}: resume with the same data, train_dataloader.batch_size '
                                "and number of processes (which is free with optim_wrapper.accumulative_counts='auto')")

    def _resume_gradients(self, filename: str, gradients: list | None) -> None:
        if gradients and len(gradients) != self.world_size:
            raise UserError(f'{filename} was written between two updates by {len(gradients)} processes, and this run has '
                            f'{self.world_size}: resume with {len(gradients)}, or from another checkpoint')
        if gradients:
            for name, parameter in unwrap(self.model).named_parameters():
                gradient = gradients[get_rank()].get(name)
                parameter.grad = None if gradient is None else gradient.to(parameter)

    @cached_property
    def _cfg_text(self) -> str:
        return self.cfg.pretty_text  # formatting takes a second

    def collect_checkpoint(self, save_optimizer: bool = True, save_param_scheduler: bool = True,
                           meta: dict[str, Any] | None = None, copy: bool = False) -> dict[str, Any] | None:
        """What a checkpoint file holds; on all processes.

        Args:
            save_optimizer (bool): Whether the optimiser's state is in it. Defaults to True.
            save_param_scheduler (bool): Whether the schedules' state is in it. Defaults to True.
            meta (dict, optional): Facts on the run, with `epoch` and `iter`, what is done so far.
            copy (bool): Whether training may go on before it is written. Defaults to False.

        Returns:
            dict | None: Plain values, and tensors on the CPU; None except on the main process.
        """
        self.call_hook('before_checkpoint')
        model = unwrap(self.model)
        gradients = None
        if save_optimizer and meta['iter'] % self.iterations_per_update:
            gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
            gradients = all_gather_object(to_cpu(gradients))  # each process has its own until the update
        if not is_main_process():
            return None
        meta = dict(
            meta, cfg=self._cfg_text, seed=self.seed, experiment_name=self.experiment_name,
            time=time.strftime('%Y%m%d_%H%M%S'), images_per_update=self.images_per_update)
        if hasattr(self.train_dataloader.dataset, 'metainfo'):
            meta['dataset_meta'] = self.train_dataloader.dataset.metainfo
        checkpoint = dict(meta=meta, state_dict=model.state_dict(), message_hub=plain(self.message_hub.state_dict()))
        if gradients:
            checkpoint['gradients'] = gradients
        if hooks := self._early_stopping():
            checkpoint['early_stopping'] = plain([
                dict(monitor=hook.monitor, best_score=hook.best_score, wait_count=hook.wait_count) for hook in hooks])
        if save_optimizer:
            checkpoint['optimizer'] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint['param_schedulers'] = plain([scheduler.state_dict() for scheduler in self.param_schedulers])
        checkpoint = to_cpu(checkpoint, copy)
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        checkpoint['meta'] = plain(checkpoint['meta'])
        return checkpoint

    def save_checkpoint(self, out_dir: str | Path, filename: str, file_client_args: dict | None = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True, meta: dict[str, Any] | None = None,
                        by_epoch: bool = True, backend_args: dict | None = None) -> None:
        """Write a checkpoint whole or not at all; arguments as mmengine's."""
        done = dict(epoch=self.epoch + 1, iter=self.iter) if by_epoch else dict(epoch=self.epoch, iter=self.iter + 1)
        checkpoint = self.collect_checkpoint(save_optimizer, save_param_scheduler, {**done, **(meta or {})})
        if checkpoint is not None:
            os.makedirs(out_dir, exist_ok=True)
            write_whole(os.path.join(out_dir, filename), serialize(checkpoint))

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks, and keep track of how far the run got; first of all compare what it was built of."""
        if fn_name == 'before_run':
            check_agreement(self)
        if fn_name in ('before_train', 'before_val', 'before_test'):
            self.in_loop = True
        if fn_name == 'after_train_iter':  # before the hooks: one may stop the run, and name a file in the work_dir
            self.trained = True
        super().call_hook(fn_name, **kwargs)


def _check_optimizer(optimizer: dict | torch.optim.Optimizer | None) -> None:
    name = optimizer.get('type') if isinstance(optimizer, dict) else None
    if isinstance(name, str):
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            if registry.get(name) is None:
                raise UserError(unknown_type(name, 'optimizer', OPTIMIZERS))


def _refused(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> str:
    """What torch says of weights that a model cannot take; it resizes some (position embeddings) while it loads."""
    try:
        model.load_state_dict(dict(weights), strict=False)
    except RuntimeError as error:
        return str(error)
    return ''


def _copy(cfg: Any) -> Any:
    return dict(cfg) if isinstance(cfg, dict) else cfg
