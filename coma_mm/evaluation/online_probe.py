"""How good the features of a pre-training are, at its validations: k-NN, a linear classifier and RankMe of every stage."""
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn

from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, suffixes_read
from coma_mm.datasets.seeding import kept_generators, seeded_generators
from coma_mm.engine.hooks.checkpoint import saver_of
from coma_mm.engine.models import unwrap
from coma_mm.engine.sharing import from_main_process
from coma_mm.errors import BadImageError, SharedError, UserError, first_names, printable
from coma_mm.models.dyvit import DyViT
from coma_mm.models.masked_autoencoder import MaskedAutoencoder
from coma_mm.ranges import SEED, above, number, whole

from .beside_training import TimeShare, ends_here, in_evaluation_mode
from .class_folders import ClassFolders, choose_images
from .features import Features
from .knn import knn_accuracy
from .linear_probe import fit_lbfgs, linear_accuracy, standardise
from .panels import spread_indices
from .stages import rank_me, stage_features, stages_of

KINDS = dict(knn='k-NN top-1', linear='linear top-1', rankme='RankMe')
"""What is measured of each stage, in the metrics' names and in words."""
BATCH = 64
PART = 0.05
"""Of the images that are trained between two validations, as many are probed: two per cent of the time, or less."""
NUMBERS = dict(rankme=(PART, 100, 1000), train=(PART, 300, 1000), test=(PART / 2, 150, 500))
"""For RankMe, to learn the classes from, and to ask for: that part of those images, at least, and at most."""
MEMORY = 2**28
"""Bytes of images for RankMe alone."""
COLLAPSED = 0.5
"""Of RankMe before training: below it the last stage is called collapsed (docs/transfer.md has the evidence)."""


@HOOKS.register_module()
class OnlineProbeHook(Hook):
    """Adds to the metrics of a pre-training's validations how good the frozen features of every stage are.

    `probe/rankme_stage1` and so on are RankMe, which needs no labels. With labelled images, `probe/knn_stage1` are also the
    top-1 accuracies of the `k` nearest neighbours, and `probe/linear_stage1` those of a linear classifier, in per cent. So
    they are in the log, in scalars.json, in every tracker, and can choose the best checkpoint. The images are a fixed
    choice, are prepared as those of the validation, and stay in memory as 8-bit numbers (150 KB each at 224 px). A new run
    is probed before it trains as well: random weights are no chance level. The main process computes, others wait.

    Where RankMe of the last stage of a DyViT falls below half of what it was before training, a warning says so, once: the
    loss alone does not tell that features collapse to few directions. That of a ViT falls in runs that learn, too.

    Nothing of the training changes. The accuracies are to be compared with each other: `coma-mm linear_probe`, on all
    images, finds more. Without labels nothing stops the run: what stands in the way of RankMe is said, and it goes on.

    Args:
        probe_root (str, optional): A folder of images by class, see `choose_images`. Defaults to none: RankMe alone, of
            training images.
        interval (int, optional): Epochs between two probes (iterations where a run counts them), of which those are made
            that fall on a validation. Defaults to every validation. The last one is always probed.
        train_images (int, optional): Images to learn the classes from, or for RankMe alone, at most. Defaults to a
            twentieth of those that are trained between two validations, from 300, for RankMe from 100, to 1000.
        test_images (int, optional): Images to ask for, at most. Defaults to half as many.
        k (int): Neighbours. Defaults to 20.
        l2 (float): The penalty of the linear classifier, see `fit_lbfgs`. Defaults to 0.01.
        max_share (float): A probe is RankMe alone where all of it would take more than this share of the run's time so far,
            and is left out where that would be more of the whole run's, but for the first and the last one. Where a
            checkpoint is chosen by a probe all are made. Defaults to 0.03.
        seed (int): Of the choice of images. Defaults to 0.

    Raises:
        UserError: A folder is given and cannot be used, or the model is no masked autoencoder: before the training starts.
    """
    priority = 'HIGHEST'  # before RuntimeInfoHook notes the metrics, and before an EMAHook puts back the weights of training

    def __init__(self, probe_root: str | None = None, interval: int | None = None, train_images: int | None = None,
                 test_images: int | None = None, k: int = 20, l2: float = 0.01, max_share: float = 0.03, seed: int = 0):
        as_many = (None, 'as many as the run has time for')
        for name, value, values in (
                ('interval', interval, whole(1, also=((None, 'every validation'), ))),
                ('train_images', train_images, whole(2, also=(as_many, ))),
                ('test_images', test_images, whole(1, also=(as_many, ))), ('k', k, whole(1)),
                ('l2', l2, above(0)), ('max_share', max_share, number(0, 1)), ('seed', seed, SEED)):
            values.check(f'OnlineProbeHook: {name}', value)
        self.probe_root, self.interval, self.seed = probe_root or None, interval, seed
        self.train_images, self.test_images, self.k, self.l2, self.max_share = train_images, test_images, k, l2, max_share
        self.folders: ClassFolders | None = None
        self.images: torch.Tensor | None = None  # on the main process: those to learn from, then those to ask for
        self.of_rank_me: list[int] = []  # their indices
        self.probes, self.chooses, self.time, self.warned = False, False, TimeShare(), False

    def metric_names(self, model: nn.Module) -> list[str]:
        """The metrics that it adds, which a checkpoint may be chosen by."""
        if not isinstance(model, MaskedAutoencoder):
            return []
        stages = stages_of(model.backbone) or getattr(model.backbone, 'out_channels', (0, ))
        kinds = KINDS if self.probe_root else ('rankme', )
        return [f'probe/{kind}_stage{stage}' for kind in kinds for stage in range(1, len(stages) + 1)]

    def before_run(self, runner: Runner) -> None:
        """Choose the images, before anything is loaded."""
        self.probes = isinstance(runner._train_loop, BaseLoop)  # else a test
        if not self.probes:
            return
        model = unwrap(runner.model)
        if not isinstance(model, MaskedAutoencoder):
            if self.probe_root:
                raise UserError(f'OnlineProbeHook is for pre-training, the model is {type(model).__name__}: leave the hook '
                                'and probe_root out (coma-mm knn and linear_probe look at the backbone of any checkpoint)')
            self.probes = False
            runner.logger.info(f'No RankMe: it is of masked autoencoders, the model is {type(model).__name__}')
        if self.probe_root:
            _, train, test = self._numbers(runner)
            suffixes = suffixes_read(runner.val_dataloader.dataset) if runner.val_loop else IMAGE_SUFFIXES
            self.folders = choose_images(self.probe_root, train, test, self.k, self.seed, suffixes)

    def before_train(self, runner: Runner) -> None:
        """Compare the classes with those of a run that is resumed; read the images; probe the weights of a new run."""
        self.time.begin(runner)
        if self.probes and runner.val_loop is None:
            self.probes = False
            if self.probe_root:
                runner.logger.warning('OnlineProbeHook: this run does not validate, so nothing is probed; set '
                                      'val_dataloader, val_cfg and val_evaluator, or leave probe_root out')
        if not self.probes:
            return
        self._compare(runner)
        chosen_by = getattr(saver_of(runner), 'key_indicators', None) or ()
        if any(str(name).startswith('probe/') for name in chosen_by):
            self.interval, self.max_share, self.chooses = None, 1., True
        count = from_main_process(lambda: self._keep_images(runner))
        subject = str(self.folders) if self.folders else f'{count} training images without labels, for RankMe alone'
        if count:
            runner.logger.info(f'Validations probe the features of every stage: {subject}')
        if not runner.iter and (found := self._probe(runner)):
            runner.visualizer.add_scalars(found, step=0, file_path=f'{runner.timestamp}.json')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Probe, if it is due, and add the results to the metrics."""
        if not self.probes or metrics is None:
            return
        loop, last = runner.train_loop, ends_here(runner)
        done = runner.epoch if isinstance(loop, EpochBasedTrainLoop) else runner.iter
        if last or not self.interval or done // self.interval > (done - loop.val_interval) // self.interval:
            metrics.update(self._probe(runner, always=last))

    def after_train(self, runner: Runner) -> None:
        """Say what it took."""
        if self.images is not None:
            runner.logger.info(f'Probing took {self.time.seconds:.1f} s, {self.time.of_run():.1%} of the time of this run')

    def _numbers(self, runner: Runner) -> tuple[int, int, int]:
        """How many images for RankMe, to learn from and to ask for; the same for a run that is resumed and made longer."""
        loop, loader = runner.train_loop, runner.train_dataloader
        if isinstance(loop, EpochBasedTrainLoop):
            end, images = loop.max_epochs, len(loader.dataset)
        else:
            end, images = loop.max_iters, (loader.batch_size or 1) * get_world_size()
        images *= min(max(loop.val_interval, self.interval or 1), end)
        rank_me, train, test = (min(max(least, int(part * images)), most) for part, least, most in NUMBERS.values())
        if self.train_images:
            rank_me, train = min(rank_me, self.train_images) if self.probe_root else self.train_images, self.train_images
        return rank_me, train, self.test_images or test

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

    def _keep_images(self, runner: Runner) -> int:
        """Read the images, on the main process; how many there are."""
        with self._going_on(runner), self.time.timed(whole=False):
            self.images = self._read(runner)
            learned = range(len(self.folders.train) if self.folders else len(self.images))
            self.of_rank_me = spread_indices(learned, self._numbers(runner)[0])
        return 0 if self.images is None else len(self.images)

    @contextmanager
    def _going_on(self, runner: Runner) -> Iterator[None]:
        """Where nobody has asked for it, by labels or for the best checkpoint, say what fails, and go on without."""
        try:
            yield
        except Exception as error:  # of a data set, a pipeline or a model of anybody's
            if self.folders or self.chooses:
                raise
            self.images = None
            why = printable(f'{type(error).__name__}: {error}'.splitlines()[0])
            runner.logger.warning(f'no RankMe of the features ({why}); training goes on without it')

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
            infos = map(data.get_data_info, order[:self._numbers(runner)[0]].tolist())
        images = []
        for index, info in enumerate(infos):
            if not self.folders and images and (len(images) + 1) * images[0].nbytes > MEMORY:
                break
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
        if self.images is None:
            return {}
        # RankMe comes at every validation for which the run has time; the rest now and then, evenly over the run.
        labelled, part = self.folders is not None, len(self.of_rank_me) / len(self.images)
        whole = not runner.iter or always or self.max_share >= 1 or labelled and self.time.so_far() <= self.max_share
        if not whole and self.time.by_the_end(runner, part) > self.max_share:
            runner.logger.info('No probe this time: with it and the last one probing would take more of the time of this '
                               f'run than max_share={self.max_share:g}')
            return {}
        whole, found = whole or not labelled, {}
        with self._going_on(runner), self.time.timed(whole), kept_generators():
            found = self._measure(runner, whole)
            self._tell(runner, found)
            self._warn_of_collapse(runner, found)
        return found

    def _measure(self, runner: Runner, whole: bool) -> dict[str, float]:
        """All, or RankMe alone, of the same images."""
        found = {}
        for stage, values in enumerate(self._features(runner, self.images if whole else self.images[self.of_rank_me]), 1):
            if not values.isfinite().all():
                runner.logger.warning(f'No probe of stage {stage}: its features are not finite')
                continue
            if self.folders and whole:
                found.update(self._classify(values, stage))
            found[f'probe/rankme_stage{stage}'] = rank_me(values[self.of_rank_me] if whole else values)
        return found

    def _features(self, runner: Runner, images: torch.Tensor) -> list[torch.Tensor]:
        """Of every stage float32 (n, channels), computed in the precision of training."""
        model, wrapper = unwrap(runner.model), runner.optim_wrapper
        device = next(model.backbone.parameters()).device
        autocast = torch.autocast(device.type, getattr(wrapper, 'cast_dtype', None), enabled=hasattr(wrapper, 'cast_dtype'))
        parts = []
        with in_evaluation_mode(model.backbone), torch.no_grad():
            for batch in images.split(min(BATCH, runner.val_dataloader.batch_size or BATCH)):
                inputs = model.data_preprocessor(dict(inputs=batch))['inputs']
                with autocast:
                    parts.append(stage_features(model.backbone, inputs))
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
        chance = f' (guessing: {100 / len(self.folders.classes):.1f})' if any('knn' in name for name in found) else ''
        alone = ' (more would take too long this time)' if self.folders and not chance else ''
        when = '' if runner.iter else '; before training'
        runner.logger.info(f'Probe, by stage{chance}: {"; ".join(parts)}{alone}{when}')

    def _warn_of_collapse(self, runner: Runner, found: dict[str, float]) -> None:
        """Compare the last stage of a DyViT with what it was before training, in a run that was resumed too."""
        model, said = unwrap(runner.model), runner.message_hub
        if self.warned or not isinstance(model.backbone, DyViT):
            return
        *_, name = self.metric_names(model)
        now = found.get(name)
        if not runner.iter:
            said.update_info('rankme_before', now)
        before = said.runtime_info.get('rankme_before')
        if now is None or not isinstance(before, float) or now >= COLLAPSED * before:
            return
        self.warned = True
        several = len(model.backbone.out_indices) > 1
        last = ', or give the decoder the last stage alone (model.backbone.out_indices=(3,))' if several else ''
        runner.logger.warning(
            f'RankMe of the last stage is {now:.1f}, and was {before:.1f} at the start: its features collapse to few '
            f'directions, which transferred badly in our studies, whatever the loss. Try a lower learning rate{last}; '
            'docs/transfer.md has more')
