"""The paper's numbers, `paper.yaml`, and which of its cells a run belongs to."""
from functools import cache
from pathlib import Path

import yaml


@cache
def paper() -> dict:
    """The content of `paper.yaml`, where its comments explain the keys."""
    return yaml.safe_load(Path(__file__).with_name('paper.yaml').read_text(encoding='utf-8'))


def row_of(name: str) -> dict:
    """The row of a table by its name, 'table2/coma_dyvit-b_300'."""
    table, row = name.split('/')
    return next(one for one in paper()['tables'][table]['rows'] if one['id'] == row)


def cells_of(facts: dict, metric: str) -> list[str]:
    """The rows of the paper's tables whose cell of a metric a run belongs to, by what its config and provenance say.

    Args:
        facts (dict): The columns of `collect`, of a fine-tuning.
        metric (str): The metric's key in the log.

    Returns:
        list[str]: Names of rows. Table 4 repeats some of Table 2, so there may be two.
    """
    if facts['pretrain_dataset'] != 'ImageNet-1K' or facts['frozen_stages'] > 0:
        return []
    if facts['pretrain_schedule'] not in (None, facts['pretrain_epochs']):  # a checkpoint from the middle of a longer run
        return []
    settings = paper()['settings'].get(facts['method'], {})
    if any(facts[key] != value for key, value in settings.items()):
        return []
    names = []
    for number, table in paper()['tables'].items():
        conditions = table.get('conditions') or table.get('conditions_by_metric', {}).get(metric)
        if metric not in table.get('metrics', ()) or any(facts[key] != value for key, value in conditions.items()):
            continue
        wanted = (facts['method'], facts['backbone'], facts['pretrain_epochs'])
        names += [f'{number}/{row["id"]}' for row in table['rows']
                  if (row['method'], row['backbone'], row['epochs']) == wanted]
    return names


def from_tables(claim: dict) -> float | None:
    """What the tables say of a claim of the text, in the claim's unit; None if nothing."""
    rule = claim.get('from')
    if not rule:
        return None
    kind, key = next((kind, rule[kind]) for kind in ('cell', 'difference', 'relative', 'ratio') if kind in rule)
    value = row_of(rule['of'])[key]
    if kind == 'cell':
        return value
    other = row_of(rule['to'])[key]
    if kind == 'difference':
        return value - other
    return 100 * value / other - (100 if kind == 'relative' else 0)


def contradicted(claim: dict) -> bool:
    """Whether the tables say something else than the text; their numbers have one decimal."""
    there = from_tables(claim)
    return there is not None and abs(there - claim['value']) > claim.get('tolerance', 0.051)
