import numpy as np
import pytest
import torch
from PIL import Image

from coma_mm.benchmark.complement.arms import ARMS, build
from coma_mm.benchmark.complement.images import read_pack
from coma_mm.benchmark.complement.measures import PENALTIES, measure, ridge_accuracy
from coma_mm.errors import UserError
from coma_mm.evaluation.features import Features
from coma_mm.evaluation.stages import rank_me

from .test_trainer import SMALL, pack  # noqa: F401


def features(seed=0, count=90, noise=1.5):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.random.default_rng(9).normal(size=(3, 8))
    values = centres[labels] + noise * rng.normal(size=(count, 8))
    return Features(torch.from_numpy(values).float(), torch.from_numpy(labels))


def ridge(x, y, other, penalty):
    """What a ridge regression with a free intercept says of other features, by solving its equations."""
    centred = x - x.mean(0)
    weight = np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - y.mean(0)))
    return ((other - x.mean(0)) @ weight + y.mean(0)).argmax(-1)


def test_the_ridge_probe_is_the_one_with_the_best_penalty_by_leaving_one_out_literally():
    fit, test = features(0), features(1)
    x, y = fit.values.double().numpy(), np.eye(3)[fit.labels]
    mean, std = x.mean(0), x.std(0, ddof=1) + 1e-6
    x, other = (x - mean) / std, (test.values.double().numpy() - mean) / std

    def left_out(penalty):
        rows = np.arange(len(x))
        guesses = [ridge(x[rows != i], y[rows != i], x[i], penalty) for i in rows]
        return (np.array(guesses) == fit.labels.numpy()).sum()

    best = max(PENALTIES, key=left_out)
    expected = 100 * (ridge(x, y, other, best) == test.labels.numpy()).mean()
    assert ridge_accuracy(fit, test, 3) == pytest.approx(expected)
    assert expected > 50


def test_rankme_is_the_number_of_equal_directions():
    assert rank_me(torch.eye(8).repeat(5, 1)) == pytest.approx(8, rel=1e-4)
    assert rank_me(torch.ones(20, 8)) == pytest.approx(1, abs=1e-3)


def test_a_model_is_measured_stage_by_stage_and_left_as_it_is(pack):  # noqa: F811
    model = build(SMALL, ARMS['C'], 0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = measure(model, SMALL, pack)
    assert [len(found[key]) for key in ('linear', 'knn', 'rankme')] == [4, 4, 4] and found['reconstruction'] > .5
    assert measure(model, SMALL, pack) == found and model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        model.backbone.stem.weight.fill_(torch.nan)
    assert measure(model, SMALL, pack)['linear'] == [50.] * 4  # it diverged


def test_a_picture_that_is_there_twice_is_left_out_and_probes_are_fitted_on_train_images(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for name in 'ab':
            (tmp_path / 'pack' / split / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
                picture.save(tmp_path / 'pack' / split / name / f'{i}.png')
    twin = tmp_path / 'pack/train'
    (twin / 'b/1.png').write_bytes((twin / 'a/1.png').read_bytes())
    found = read_pack(tmp_path, 2)
    assert (len(found.train), len(found.fit), len(found.test), len(found.held_out)) == (6, 4, 6, 4)
    assert found.labels[found.fit].bincount().tolist() == [2, 2] and set(found.fit.tolist()) <= set(found.train.tolist())
    assert not set(found.held_out.tolist()) & set(found.train.tolist())
    assert found.digest == read_pack(tmp_path / 'pack', 2).digest
    with pytest.raises(UserError, match='3 train images of its own; expected more than 5'):
        read_pack(tmp_path, 5)
    with pytest.raises(UserError, match='see --data'):
        read_pack(tmp_path / 'none')
