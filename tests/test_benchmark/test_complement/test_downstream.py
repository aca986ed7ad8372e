"""What models are worth in use, on noise and on maps whose classes are known."""
import pytest
import torch

from coma_mm.benchmark.complement import downstream
from coma_mm.benchmark.complement.arms import ARMS, build
from coma_mm.benchmark.complement.downstream import Classifier, fine_tune, measure_downstream, places_miou
from coma_mm.errors import Stopped

from .test_trainer import SMALL, pack  # noqa: F401


@pytest.fixture
def few(monkeypatch):
    """Few scenes, small batches, one epoch."""
    monkeypatch.setattr(downstream, 'SCENES', 6)
    monkeypatch.setattr(fine_tune, '__defaults__', (1, 1e-2, 3, *fine_tune.__defaults__[3:]))
    downstream.scenes.cache_clear()
    yield
    downstream.scenes.cache_clear()


def test_a_model_is_left_as_it_is_and_its_seed_repeats(pack, few):  # noqa: F811
    model = build(SMALL, ARMS['A'], 0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = measure_downstream(model, SMALL, pack, 0)
    assert 0 <= found['finetuned'] <= 100 and len(found['dense']) == 4
    assert measure_downstream(model, SMALL, pack, 0) == found
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(Stopped, match='begins anew'):
        fine_tune(model, SMALL, pack, 0, stops=lambda: True)


def test_fine_tuning_learns_what_the_encoder_can_see_and_takes_its_weights(pack, few):  # noqa: F811
    pack.images[pack.labels == 1] //= 4
    model = build(SMALL, ARMS['A'], 0)
    assert fine_tune(model, SMALL, pack, 0, epochs=12, lr=1e-2) == 100
    with torch.no_grad():
        model.backbone.stem.weight.zero_()
    classifier = Classifier(model, SMALL, 2, 0)
    assert torch.equal(classifier.backbone.stem.weight, model.backbone.stem.weight)
    assert classifier(pack.images[:2].float()).std(0).max() < 1e-6  # which sees no image any more


def test_places_learn_the_class_of_most_of_their_pixels():
    truth = torch.randint(0, 6, (40, 4, 4), generator=torch.Generator().manual_seed(0))
    pixels = truth.repeat_interleave(4, 1).repeat_interleave(4, 2)
    values = torch.nn.functional.one_hot(truth, 6).permute(0, 3, 1, 2).float()
    assert places_miou((values[:20], pixels[:20]), (values[20:], pixels[20:])) == 100
    pixels[20:, ::4, ::4] = (pixels[20:, ::4, ::4] + 1) % 6  # a pixel of 16, which no place can say
    wrong = places_miou((values[:20], pixels[:20]), (values[20:], pixels[20:]))
    assert wrong == pytest.approx(100 * 15 / 17, abs=1)
    assert places_miou((values[:20] * 0, pixels[:20]), (values[20:], pixels[20:])) < 5


def test_scenes_are_drawn_as_the_data_set_has_them(few):
    images, classes = downstream.scenes('train', 64)
    assert images.shape == (6, 3, 64, 64) and images.dtype == torch.uint8 and set(classes.unique().tolist()) <= set(range(6))
