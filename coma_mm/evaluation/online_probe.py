"""How good the features of a pre-training are, at its validations: k-NN, a linear classifier and RankMe of every stage."""
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn

from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, suffixes_read
from coma_mm.datasets.seeding import kept_generators, seeded_generators
from coma_mm.engine.hooks.checkpoint import saver_of
from coma_mm.engine.models import unwrap
from coma_mm.engine.sharing import from_main_process
from coma_mm.errors import BadImageError, SharedError, UserError, first_names
from coma_mm.models.masked_autoencoder import MaskedAutoencoder
from coma_mm.ranges import SEED, above, number, whole

from .class_folders import ClassFolders, choose_images
from .features import Features
from .knn import knn_accuracy
from .linear_probe import fit_lbfgs, linear_accuracy, standardise
from .stages import rank_me, stage_features

KINDS = dict(knn='k-NN top-1', linear='linear top-1', rankme='RankMe')
"""What is measured of each stage, in the metrics' names and in words."""
BATCH = 64


@HOOKS.register_module()
class OnlineProbeHook(Hook):
    """Adds to the metrics of a pre-training's validations how good the frozen features of every stage are.

    With labelled images, `probe/knn_stage1` and so on are the top-1 accuracies of the `k` nearest neighbours, and
    `probe/linear_stage1` those of a linear classifier, in per cent; `probe/rankme_stage1`, which needs no labels, is RankMe.
    So they are in the log, in scalars.json, in every tracker, and can choose the best checkpoint. The images are a fixed
    choice, are prepared as those of the validation, and stay in memory as 8-bit numbers (150 KB each at 224 px). A new run
    is probed before it trains as well: random weights are no chance level. The main process computes, others wait.

    Nothing of the training changes. The accuracies are to be compared with each other: `coma-mm linear_probe`, on all
    images, finds more.

    Args:
        probe_root (str, optional): A folder of images by class, see `choose_images`. Defaults to none: RankMe alone, of
            training images.
        interval (int, optional): Epochs between two probes (iterations where a run counts them), of which those are made
            that fall on a validation. Defaults to every validation. The last one is always probed.
        train_images (int): Images to learn the classes from, or for RankMe alone, at most. Defaults to 1000.
        test_images (int): Images to ask for, at most. Defaults to 500.
        k (int): Neighbours. Defaults to 20.
        l2 (float): The penalty of the linear classifier, see `fit_lbfgs`. Defaults to 0.01.
        max_share (float): A probe is left out where probing would take more than this share of the run's time so far,
            but for the first and the last one. Where a checkpoint is chosen by a probe none is. Defaults to 0.03.
        seed (int): Of the choice of images. Defaults to 0.

    Raises:
        UserError: The model is no masked autoencoder, or the folder cannot be used: before the training starts.
    """
    priority = 'HIGHEST'  # before RuntimeInfoHook notes the metrics, and before an EMAHook puts back the weights of training

    def __init__(self, probe_root: str | None = None, interval: int | None = None, train_images: int = 1000,
                 test_images: int = 500, k: int = 20, l2: float = 0.01, max_share: float = 0.03, seed: int = 0):
        for name, value, values in (
                ('interval', interval, whole(1, also=((None, 'every validation'), ))),
                ('train_images', train_images, whole(2)), ('test_images', test_images, whole(1)), ('k', k, whole(1)),
                ('l2', l2, above(0)), ('max_share', max_share, number(0, 1)), ('seed', seed, SEED)):
            values.check(f'OnlineProbeHook: {name}', value)
        self.probe_root, self.interval, self.seed = probe_root or None, interval, seed
        self.train_images, self.test_images, self.k, self.l2, self.max_share = train_images, test_images, k, l2, max_share
        self.folders: ClassFolders | None = None
        self.images: torch.Tensor | None = None  # on the main process: those to learn from, then those to ask for
        self.start, self.seconds, self.cost = None, 0., 0.  # of the run; of all probes; of the latest

    def before_run(self, runner: Runner) -> None:
        """Choose the images, before anything is loaded."""
        if not isinstance(runner._train_loop, BaseLoop):  # a test
            return
        model = unwrap(runner.model)
        if not isinstance(model, MaskedAutoencoder):
            raise UserError(f'OnlineProbeHook is for pre-training, the model is {type(model).__name__}: leave the hook and '
                            'probe_root out (coma-mm knn and linear_probe look at the backbone of any checkpoint)')
        if self.probe_root:
            suffixes = suffixes_read(runner.val_dataloader.dataset) if runner.val_loop else IMAGE_SUFFIXES
            self.folders = choose_images(self.probe_root, self.train_images, self.test_images, self.k, self.seed, suffixes)

    def before_train(self, runner: Runner) -> None:
        """Compare the classes with those of a run that is resumed; read the images; probe the weights of a new run."""
        self.start = time.monotonic()
        if runner.val_loop is None:
            runner.logger.warning('OnlineProbeHook: this run does not validate, so nothing is probed; set val_dataloader, '
                                  'val_cfg and val_evaluator, or leave the hook out')
            return
        self._compare(runner)
        chosen_by = getattr(saver_of(runner), 'key_indicators', None) or ()
        if any(str(name).startswith('probe/') for name in chosen_by):
            self.interval, self.max_share = None, 1.
        from_main_process(lambda: self._keep_images(runner))
        subject = str(self.folders) if self.folders else 'training images without labels, for RankMe alone'
        runner.logger.info(f'Validations probe the features of every stage: {subject}')
        if not runner.iter and (found := self._probe(runner)):
            runner.visualizer.add_scalars(found, step=0, file_path=f'{runner.timestamp}.json')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Probe, if it is due, and add the results to the metrics."""
        if self.start is None or metrics is None:  # no training
            return
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, end = (runner.epoch, runner.max_epochs) if by_epoch else (runner.iter, runner.max_iters)
        last = done >= end
        if last or not self.interval or done // self.interval > (done - loop.val_interval) // self.interval:
            metrics.update(self._probe(runner, always=last))

    def after_train(self, runner: Runner) -> None:
        """Say what it took."""
        if self.images is not None:
            runner.logger.info(f'Probing took {self.seconds:.1f} s, {self._share():.1%} of the time of this run')

    def _compare(self, runner: Runner) -> None:
        """Raise a SharedError if the classes are others than those of the run that goes on; warn of other images."""
        if not self.folders:
            return
        now, said = self.folders.classes, runner.message_hub.runtime_info
        before, images = said.get('probe_classes'), self._names_hash()
        if runner.iter and isinstance(before, list) and before != now:
            new, gone = sorted(set(now) - set(map(str, before))), sorted(set(map(str, before)) - set(now))
            changes = [f'{what}: {first_names(names)}' for what, names in (('new', new), ('gone', gone)) if names]
            changes = '; '.join(changes)
            raise SharedError(f'probe_root {self.probe_root} has other classes than before the resume ({changes}), so the '
                              'curves would not go on; give the folder that the run began with, or leave probe_root out')
        if runner.iter and isinstance(before, list) and said.get('probe_images') != images:
            runner.logger.warning(f'The images of probe_root {self.probe_root} are others than before the resume: the '
                                  'curves of the probe may make a step here')
        runner.message_hub.update_info('probe_classes', list(now))
        runner.message_hub.update_info('probe_images', images)

    def _keep_images(self, runner: Runner) -> None:
        with self._timed():
            self.images = self._read(runner)
        self.cost = 0.

    def _names_hash(self) -> str:
        """Of the paths below the folder, in their order."""
        paths = [path[len(self.folders.root):] for path, _ in self.folders.train + self.folders.test]
        return hashlib.sha256('\n'.join(paths).encode(errors='surrogateescape')).hexdigest()[:16]

    def _read(self, runner: Runner) -> torch.Tensor:
        """The images as the validation prepares them, uint8 (n, C, H, W)."""
        prepare = runner.val_dataloader.dataset.pipeline
        if self.folders:
            infos = [dict(img_path=path) for path, _ in self.folders.train + self.folders.test]
        else:
            data = runner.train_dataloader.dataset
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.seed))
            infos = [data.get_data_info(index) for index in order[:self.train_images].tolist()]
        images = []
        for index, info in enumerate(infos):
            try:
                with seeded_generators(self.seed, 0, index):
                    images.append(prepare({**info, 'sample_idx': index})['inputs'])
            except BadImageError:
                if self.folders:
                    raise
        if len({image.shape for image in images}) != 1:
            raise UserError('OnlineProbeHook: the pipeline of val_dataloader brings images to several sizes; expected one, '
                            'as by ResizeEdge and CenterCrop')
        return torch.stack(images)

    def _probe(self, runner: Runner, always: bool = False) -> dict[str, float]:
        """The metrics, on all processes; empty where the probe is left out."""
        return from_main_process(lambda: self._probe_here(runner, always))

    def _probe_here(self, runner: Runner, always: bool) -> dict[str, float]:
        share = (self.seconds + self.cost) / (time.monotonic() - self.start + self.cost)
        if runner.iter and not always and share > self.max_share:
            runner.logger.info(f'No probe this time: with it probing would take {share:.1%} of the time so far, more '
                               f'than max_share={self.max_share:g}')
            return {}
        with self._timed(), kept_generators():
            found = self._measure(runner)
            self._tell(runner, found)
        return found

    def _measure(self, runner: Runner) -> dict[str, float]:
        found = {}
        for stage, values in enumerate(self._features(runner), 1):
            if not values.isfinite().all():
                runner.logger.warning(f'No probe of stage {stage}: its features are not finite')
                continue
            if self.folders:
                found.update(self._classify(values, stage))
            found[f'probe/rankme_stage{stage}'] = rank_me(values[:len(self.folders.train) if self.folders else None])
        return found

    def _features(self, runner: Runner) -> list[torch.Tensor]:
        """Of every stage float32 (n, channels), computed in the precision of training."""
        model, wrapper = unwrap(runner.model), runner.optim_wrapper
        device = next(model.backbone.parameters()).device
        autocast = torch.autocast(device.type, getattr(wrapper, 'cast_dtype', None), enabled=hasattr(wrapper, 'cast_dtype'))
        parts = []
        with _in_evaluation_mode(model.backbone), torch.no_grad():
            for batch in self.images.split(BATCH):
                images = model.data_preprocessor(dict(inputs=batch))['inputs']
                with autocast:
                    parts.append(stage_features(model.backbone, images))
        return [torch.cat(stage) for stage in zip(*parts, strict=True)]

    def _classify(self, values: torch.Tensor, stage: int) -> dict[str, float]:
        """The accuracies of both classifiers."""
        sizes, classes = [len(self.folders.train), len(self.folders.test)], len(self.folders.classes)
        labels = [torch.tensor([label for _, label in part], device=values.device)
                  for part in (self.folders.train, self.folders.test)]

        def both() -> Sequence[Features]:  # anew: each classifier changes its features in place
            return [Features(part.clone(), own) for part, own in zip(values.split(sizes), labels, strict=True)]

        knn = knn_accuracy(*both(), classes, (self.k, ), quiet=True)[self.k]['top1']
        train, test = both()
        standardise(train, test)
        with torch.enable_grad():
            head = fit_lbfgs(train, classes, self.l2, tolerance=1e-3)
        return {f'probe/knn_stage{stage}': knn, f'probe/linear_stage{stage}': linear_accuracy(head, test)['top1']}

    def _tell(self, runner: Runner, found: dict[str, float]) -> None:
        parts = []
        for kind, words in KINDS.items():
            values = [f'{value:.1f}' for name, value in found.items() if name.startswith(f'probe/{kind}_')]
            parts += [f'{words} {", ".join(values)}'] if values else []
        chance = f' (guessing: {100 / len(self.folders.classes):.1f})' if self.folders else ''
        runner.logger.info(f'Probe, by stage{chance}: {"; ".join(parts)}' + ('' if runner.iter else '; before training'))

    def _share(self) -> float:
        return self.seconds / max(time.monotonic() - self.start, 1e-9)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.cost = time.monotonic() - start
        self.seconds += self.cost


@contextmanager
def _in_evaluation_mode(model: nn.Module) -> Iterator[Any]:
    """Afterwards every part of the model is in the mode that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
