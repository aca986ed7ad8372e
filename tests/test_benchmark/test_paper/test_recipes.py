"""docs/recipes.md shows what the configs give, its commands do what they say, and every hyper-parameter has a source."""
import argparse
import copy
import functools
import re
import shlex
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope

from coma_mm.benchmark.paper import recipes
from coma_mm.commands import fill_parser
from coma_mm.config import read as config_module
from coma_mm.config.read import parse_options, read_config
from coma_mm.config_tree import find_types

ROOT = Path(__file__).parents[3]
DATA = yaml.safe_load(recipes.DATA.read_text())
ROWS = [(family['title'], row, *entry) for family in DATA['hyper_parameters'] for row, entry in family['rows'].items()]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Commands are for the root of the repository; no variable of the environment is part of them."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv('PRETRAINED', raising=False)


@functools.cache
def configs():
    """dict: What the page shows of each config."""
    return {name: recipes.read(name) for name in recipes.config_names()}


def test_page_is_up_to_date(monkeypatch):
    monkeypatch.setattr(recipes, 'read', configs().get)
    assert recipes.PAGE.read_text() == recipes.page(), 'run python tools/make_recipes.py'


# ---------------------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------------------
def parse(line):
    """SimpleNamespace: A command's tool, its arguments as that tool sees them, and the variable PRETRAINED."""
    words = shlex.split(line)
    pretrained = words.pop(0).removeprefix('PRETRAINED=') if words[0].startswith('PRETRAINED=') else None
    if words[0] == 'python':
        del words[0]
        tool = Path(words[0]).stem
    else:
        tool = re.fullmatch(r'tools/dist_(train|test)\.sh', words[0])[1]
        assert int(words.pop(2 if tool == 'train' else 3)) == 8, line
    parser = argparse.ArgumentParser()
    fill_parser(parser, import_module(f'coma_mm.commands.{tool}'))
    try:
        args = parser.parse_args(words[1:])
    except SystemExit as end:
        raise ValueError(f'the tool does not understand {line}') from end
    args.cfg_options = parse_options(args.cfg_options)
    return SimpleNamespace(line=line, tool=tool, script=words[0], args=args, pretrained=pretrained)


def rows(text):
    """list[list[str]]: The cells of all tables in a text, without the heads of the tables."""
    lines = re.findall(r'^\| (.*) \|$', re.sub(r'^.*\n\| ---.*', '', text, flags=re.MULTILINE), flags=re.MULTILINE)
    return [[cell.strip('`') for cell in line.split(' | ')] for line in lines]


def linked(text):
    """str | None: The config that a text has the first link to, as folder/name."""
    return next(iter(re.findall(r'\(\.\./configs/(.+?)\.py\)', text)), None)


@functools.cache
def runs():
    """dict[str, SimpleNamespace]: The rows of the table of runs, by config."""
    text = recipes.PAGE.read_text().split('\n## ')
    table = next(part for part in text if part.startswith('Runs\n'))
    found = [SimpleNamespace(config=linked(config), what=what, last=last, commands=steps.split(', '),
                             weights=[] if weights == 'none' else weights.split('`<br>`'))
             for config, what, weights, last, steps in rows(table)]
    assert len({run.config for run in found}) == len(found)
    return {run.config: run for run in found}


@functools.cache
def commands():
    """list[SimpleNamespace]: All commands of the page, its patterns filled from its tables."""
    page = recipes.PAGE.read_text()
    lines = re.findall(r'^(?:# (.+)\n)?((?:PRETRAINED|tools|python).*)$', page[page.index('```') + 4:], flags=re.MULTILINE)
    patterns = {title: line for title, line in lines if title}
    looks = [line for _, line in lines if line.startswith('python')]
    assert len(lines) == len(patterns) + 1 and len(looks) == 2
    found = []

    def add(pattern, options='', **values):
        line = re.sub('|'.join(values), lambda match: str(values[match[0]]), pattern)
        found.append(parse(f'{line} --cfg-options {options}' if options else line))

    for run in sorted(runs().values(), key=lambda run: bool(run.weights)):
        for weights in run.weights or [None]:
            folder = f'{Path(weights or "").parent}/{Path(run.config).name}'
            for step in run.commands:
                add(patterns[step], CONFIG=run.config, WEIGHTS=weights, FOLDER=folder, LAST=run.last)
            if weights and re.fullmatch(r'classification/\w+-\w+(-p16)?_8xb128-.*', run.config):
                for line in looks:
                    add(line, CONFIG=run.config, WEIGHTS=weights, FOLDER=folder)
    sections = page[page.index('\n## Ablations'):page.index('\n## Hyper-parameters')].split('\n### ')
    for section in sections[1:]:
        config = linked(section) or linked(sections[0])
        classifier = next(name for name in runs() if name.startswith('classification/')
                          and config.split('_')[1].startswith(name.split('/')[1].split('_')[0]))
        for name, options, *again in rows(section):
            options = '' if options == '–' else options
            pattern = patterns['pre-train an ablation']
            add(pattern if options else pattern.split(' --cfg-options')[0], CONFIG=config, NAME=name, OPTIONS=options)
            folder = f'work_dirs/ablations/{name}'
            add(patterns['fine-tune'], options if again == ['the same'] else ''.join(again), CONFIG=classifier,
                WEIGHTS=f'{folder}/{runs()[config].last}', FOLDER=f'{folder}/imagenet')
    return found


@functools.cache
def parsed(path):
    return Config.fromfile(path)


@pytest.fixture
def read(monkeypatch):
    """`read_config`, which reads a file once only, and to which nothing may seem odd."""
    monkeypatch.setattr(config_module, '_parse', lambda path: copy.deepcopy(parsed(path)))
    monkeypatch.setattr(config_module, '_fit_to_cpu', lambda cfg: None)
    monkeypatch.setattr(config_module, 'say', pytest.fail)
    return read_config


def test_every_run_of_the_paper_is_there():
    """Table 2's six rows of DyViT, Table 3's, Table 4's, as (pre-training, what is trained from it)."""
    found = {(Path(command.pretrained).parts[1], command.args.config.split('/')[1]) for command in commands()
             if command.pretrained}
    assert {(f'{method}_{arch}_8xb512-amp-coslr-{epochs}e_in1k', task) for method, arch, epochs, task in [
        ('coma', 'dyvit-small', 300, 'classification'), ('coma', 'dyvit-small', 800, 'classification'),
        ('mae', 'dyvit-base', 300, 'classification'), ('coma', 'dyvit-base', 300, 'classification'),
        ('mae', 'dyvit-base', 800, 'classification'), ('coma', 'dyvit-base', 800, 'classification'),
        ('coma', 'dyvit-base', 800, 'segmentation'), ('coma', 'dyvit-base', 800, 'detection'),
        ('coma', 'vit-base-p16', 800, 'classification'), ('mae', 'vit-base-p16', 1600, 'classification')]} <= found


def test_tools_and_configs_exist():
    for command in commands():
        assert Path(command.script).stat().st_mode & 0o100 and Path(command.args.config).is_file(), command.line


def test_every_config_has_one_row_and_is_run():
    assert set(runs()) == set(recipes.config_names())
    assert {command.args.config for command in commands()} == {f'configs/{name}.py' for name in runs()}


def test_the_last_checkpoint_is_what_training_writes_last():
    for name, cfg in configs().items():
        assert runs()[name].last == last_checkpoint(cfg)


def test_no_run_overwrites_another(read):
    outputs = [getattr(command.args, 'out', None) or read(command.args.config, work_dir=command.args.work_dir).work_dir
               for command in commands()]
    assert len(outputs) > 100 and len(set(outputs)) == len(outputs)


def last_checkpoint(cfg):
    loop = cfg['train_cfg']
    return f'epoch_{loop["max_epochs"]}.pth' if loop.get('max_epochs') else f'iter_{loop["max_iters"]}.pth'


def backbone(cfg):
    """dict: Name and shape of each tensor of a config's backbone, and which may be missing in a checkpoint."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        model = MODELS.build(cfg.model.backbone)
    return {name: value.shape for name, value in model.state_dict().items()}, getattr(model, 'allowed_missing', ())


def architecture(cfg):
    """dict: The settings of a DyViT that its weights are for."""
    per_run = {'type', 'init_cfg', 'out_indices', 'out_type', 'drop_path_rate', 'frozen_stages', 'mask_before_stem'}
    return {key: value for key, value in cfg.model.backbone.items() if key not in per_run}


def test_weights_are_those_that_an_earlier_command_writes(read, monkeypatch):
    runs = {}  # by the path of the checkpoint that they end with
    for command in commands():
        cfg = read(command.args.config, command.args.cfg_options, getattr(command.args, 'work_dir', None))
        if command.tool != 'train':
            config, _ = runs[command.args.checkpoint]
            assert config == command.args.config or command.tool != 'test', command.line
            continue
        assert bool(command.pretrained) == ('Pretrained' in str(cfg.model)), command.line
        if command.pretrained:
            _, before = runs[command.pretrained]
            theirs, _ = backbone(before)
            ours, allowed_missing = backbone(cfg)
            if before.model.backbone.type == 'DyViT':  # not all that makes it has tensors
                assert architecture(cfg) == architecture(before), command.line
            assert {name: shape for name, shape in ours.items() if name not in allowed_missing}.items() <= theirs.items(), (
                command.line)
        runs[f'{cfg.work_dir}/{last_checkpoint(cfg)}'] = command.args.config, cfg
    assert len(runs) > 80


@pytest.mark.parametrize('config', sorted({command.args.config for command in commands() if command.pretrained}))
def test_fine_tuning_takes_the_weights_that_pretrained_names(config, monkeypatch):
    monkeypatch.setenv('PRETRAINED', 'some/weights.pth')
    assert Config.fromfile(config).model.backbone.init_cfg.checkpoint == 'some/weights.pth'


def test_every_option_is_read(read):
    """Each one changes the config, and what is built from the config knows it."""
    changed = [command for command in commands() if command.args.cfg_options]
    assert len(changed) > 40
    for command in changed:
        options = command.args.cfg_options
        cfg = read(command.args.config, options)
        for key in options:
            rest = {other: value for other, value in options.items() if other != key}
            assert read(command.args.config, rest).to_dict() != cfg.to_dict(), f'{key} changes nothing: {command.line}'
        with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
            MODELS.build(cfg.model)
        for step in find_types([cfg.train_dataloader, cfg.get('val_dataloader')], 'PatchMask'):
            TRANSFORMS.build(step)
        for hook in cfg.get('custom_hooks', ()):
            HOOKS.build(hook)


def test_training_and_validation_mask_alike(read):
    for command in commands():
        cfg = read(command.args.config, command.args.cfg_options)
        masks = list(find_types([cfg.train_dataloader, cfg.get('val_dataloader')], 'PatchMask'))
        assert all(mask == masks[0] for mask in masks), command.line


# ---------------------------------------------------------------------------------------------------------------------
# Hyper-parameters
# ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('family, row, paths, source', ROWS, ids=[f'{family}: {row}' for family, row, *_ in ROWS])
def test_a_row_shows_values_and_says_where_they_come_from(family, row, paths, source):
    assert re.fullmatch(r'[a-zA-Z]\w*(\.\w+)*( or [a-zA-Z]\w*(\.\w+)*)*', paths), 'a value that is not read from a config'
    tags = set(re.findall(r'\w+', source)) & DATA['sources'].keys()
    assert tags, f'no source: {source!r}'
    assert re.fullmatch(r'[A-Za-z]+', source.split()[0].rstrip(',;:')) and source.split()[0].rstrip(',;:') in DATA['sources']
    assert 'ours' not in tags or re.search(r'\bours: \w+ \w+', source), 'ours, but why?'
    assert not re.search(r'(?<!Table )(?<!Eq\. )(?<![\w-])\d', source), 'a value in place of a source'


def test_every_source_is_used():
    words = {word for *_, source in ROWS for word in re.findall(r'\w+', source)}
    assert DATA['sources'].keys() <= words


@pytest.mark.parametrize('family', DATA['hyper_parameters'], ids=lambda family: family['title'])
def test_every_hyper_parameter_has_a_row(family):
    """What the optimiser, the groups of parameters, the schedules, the augmentation and the pipeline are given."""
    paths = {path for either, _ in family['rows'].values() for path in either.split(' or ')}
    for names in recipes.columns(family, recipes.config_names()).values():
        assert names
        for name in names:
            cfg = configs()[name]
            wrapper = cfg['optim_wrapper']
            for key in wrapper.optimizer.keys() - {'_scope_', 'fused'}:  # how it is computed, not what
                assert f'optim_wrapper.optimizer.{key}' in paths, name
            for key in wrapper.get('paramwise_cfg', {}).keys() - {'custom_keys', *NO_DECAY}:
                assert f'optim_wrapper.paramwise_cfg.{key}' in paths, name
            steps = {type(step).__name__ for step in cfg['train']} | {
                f'model.train_cfg.augments.{one.type}' for one in (cfg['model'].get('train_cfg') or {}).get('augments', ())}
            for step in steps - NO_CHOICE:
                assert any(step in path for path in paths), f'{name}: {step}'
            *warm_up, schedule = cfg['param_scheduler']
            for key in {'start_factor', 'end'} & {key for one in warm_up for key in one}:
                assert f'param_scheduler.LinearLR.{key}' in paths
            for key in schedule.keys() & {'eta_min', 'power', 'milestones', 'gamma'}:
                known = {f'param_scheduler.1.{key}', f'param_scheduler.{schedule.type}.{key}'}
                assert schedule[key] == 0 or known & paths, f'{name}: {key}'


NO_DECAY = {'norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult'}
NO_CHOICE = {
    'LoadAnnotations', 'LoadImageFromFile', 'PackInputs', 'PackMaskedImage', 'PackSegInputs', 'PackDetInputs'
}


@pytest.mark.parametrize('family', DATA['hyper_parameters'], ids=lambda family: family['title'])
def test_paths_lead_somewhere(family):
    for row, (paths, _) in family['rows'].items():
        if row != 'Gradient clipping':  # which no run has
            cells = {recipes.cell(paths, configs()[name]) for names in recipes.columns(
                family, recipes.config_names()).values() for name in names}
            assert cells != {'–'}, row


def test_every_config_has_one_column():
    """But those of ablations, which differ from CoMA's in what their section says."""
    columns = [name for family in DATA['hyper_parameters']
               for names in recipes.columns(family, recipes.config_names()).values() for name in names]
    assert sorted(columns) == sorted(name for name in recipes.config_names() if not name.startswith('ablations/'))


def test_values_are_looked_up_by_key_attribute_type_and_number():
    setting = dict(
        schedule=[dict(type='Warm', end=5), dict(type='Cosine', ends=[0., 1e-6])],
        steps=[SimpleNamespace(size=3), torch.nn.Dropout(0.25)],
        flag=False)
    assert recipes.cell('schedule.Warm.end', setting) == '5'
    assert recipes.cell('schedule.1.ends', setting) == '0, 1e-6'
    assert [recipes.cell(path, setting) for path in ('steps.Dropout.p', 'steps.0.size', 'flag')] == ['0.25', '3', 'no']
    assert recipes.cell('schedule.Other.end or steps.Dropout.q or flag', setting) == 'no'
    assert recipes.cell('schedule.Warm.begin', setting) == '–'


@pytest.mark.parametrize('there, code', [('page', 0), ('old', 2), (None, 2)])
def test_check(tmp_path, monkeypatch, run_tool, there, code):
    page = tmp_path / 'page.md'
    if there:
        page.write_text(there)
    monkeypatch.setattr(recipes, 'PAGE', page)
    monkeypatch.setattr(recipes, 'page', lambda: 'page')
    assert ('make_recipes.py' in run_tool('make_recipes.py', '--check', code=code)) == (code == 2)
    run_tool('make_recipes.py')
    run_tool('make_recipes.py', '--check')
    assert page.read_text() == 'page'
