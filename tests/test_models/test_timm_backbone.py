"""DyViT keeps what timm, segmentation_models_pytorch and torchvision expect of a backbone."""
import sys

import pytest
import torch
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.rpn import AnchorGenerator

from coma_mm.errors import UserError
from coma_mm.models import DyViT
from coma_mm.models.timm_backbone import add_to_smp, timm_backbone, torchvision_backbone
from tests.helpers.small_models import ARCH, randomise

smp = pytest.importorskip('segmentation_models_pytorch', reason="needs the extra 'test'")


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A file with the weights of a whole model whose backbone is a small DyViT, and that backbone."""
    path = str(tmp_path_factory.mktemp('weights') / 'epoch_1.pth')
    backbone = randomise(DyViT(ARCH, out_indices=(0, 1, 2, 3)))
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in backbone.state_dict().items()}), path)
    return path, backbone


def learns(model, loss, without=()):
    """Assert that a loss reaches every parameter with a finite gradient, but those that are not used."""
    loss.backward()
    unused = [name for name, one in model.named_parameters() if one.grad is None]
    assert all(name.split('.')[-2] in without for name in unused), unused
    assert loss.isfinite() and all(one.grad.isfinite().all() for one in model.parameters() if one.grad is not None)


class TestTimm:

    def test_the_maps_are_what_is_said_of_them(self):
        model = timm_backbone(ARCH, out_indices=(-1, 1), in_channels=5)
        maps = model(torch.randn(2, 5, 70, 40))
        assert [tuple(one.shape) for one in maps] == [(2, 16, 9, 5), (2, 64, 3, 2)]
        assert model.out_channels == model.feature_info.channels() == [16, 64]
        assert model.strides == model.reductions == model.feature_info.reduction() == [8, 32]
        learns(model, sum(one.square().mean() for one in maps))

    def test_its_facts_are_asked_as_those_of_timm(self):
        timm = pytest.importorskip('timm.models._features')
        info = timm_backbone(ARCH, out_indices=(1, 3), patch_size=16).feature_info
        theirs = timm.FeatureInfo([dict(one) for one in info.info], info.out_indices)
        for ask in (lambda one: one.channels(), lambda one: one.channels(2), lambda one: one.reduction([0, 3]),
                    lambda one: one.reduction(), lambda one: one.module_name(), lambda one: one[1], len):
            assert ask(info) == ask(theirs)
        assert info.reduction([2, 3]) == [16, 16]

    def test_a_checkpoint_is_loaded_and_the_file_of_its_weights_is_one_again(self, checkpoint, tmp_path):
        path, backbone = checkpoint
        model = timm_backbone(ARCH, path)
        image = torch.randn(1, 3, 64, 64)
        assert all(map(torch.equal, model(image), backbone(image)))
        torch.save(model.state_dict(), tmp_path / 'again.pth')
        again = timm_backbone(ARCH, str(tmp_path / 'again.pth'), out_indices=(2, ))
        assert torch.equal(again(image)[0], backbone(image)[2])

    @pytest.mark.parametrize('settings, message', [
        (dict(arch='tiny'), "does not fit DyViT .arch 'tiny'"), (dict(arch=ARCH, in_channels=4), 'images of 3 bands'),
        (dict(arch=ARCH, out_type='raw'), 'timm_backbone: out_type'), (dict(arch='tinny'), "did you mean 'tiny'")])
    def test_what_does_not_fit_is_said_in_one_line(self, checkpoint, settings, message):
        with pytest.raises(UserError, match=message):
            timm_backbone(checkpoint=checkpoint[0], **settings)

    def test_without_a_checkpoint_it_starts_as_a_training_does(self, capfd):
        weights = timm_backbone(ARCH).backbone.stages[0][1].mlp
        assert any(not one.any() for name, one in weights.named_parameters() if name.endswith('weight'))
        assert capfd.readouterr() == ('', '')  # mmengine has a line for each parameter


class TestSmp:

    @pytest.mark.parametrize('model, settings', [
        ('Unet', {}), ('FPN', {}), ('Segformer', {}), ('UPerNet', {}), ('MAnet', dict(half_channels=4)),
        ('Linknet', dict(half_channels=4)), ('UnetPlusPlus', dict(half_channels=4)),
        ('PAN', dict(encoder_output_stride=32)), ('DeepLabV3Plus', dict(patch_size=16)),
        ('Unet', dict(patch_size=16)), ('Segformer', dict(patch_size=16)), ('UPerNet', dict(patch_size=16))])
    def test_its_models_take_it(self, model, settings):
        stride = {key: settings[key] for key in settings if key == 'encoder_output_stride'}
        add_to_smp('dyvit-test', arch=ARCH, **{key: settings[key] for key in settings if key not in stride})
        model = getattr(smp, model)('dyvit-test', encoder_weights=None, in_channels=4, classes=2, **stride)
        assert model.encoder.out_channels == [4, settings.get('half_channels', 0), *ARCH['dims']]
        size = (256, 256) if type(model) is smp.PAN else (64, 96)  # which pools the last map three times
        maps = model(torch.randn(2, 4, *size))
        assert maps.shape == (2, 2, *size)
        learns(model, maps.square().mean(), without=('norm1', 'norm2') if type(model) is smp.DeepLabV3Plus else ())

    def test_a_smaller_depth_and_sides_of_any_length(self):
        add_to_smp('dyvit-test', arch=ARCH, half_channels=4)
        model = smp.Unet('dyvit-test', encoder_depth=3, encoder_weights=None, decoder_channels=(16, 8, 8), classes=2)
        assert model.encoder.out_channels == [3, 4, 8, 16] and model.encoder.output_stride == 8
        assert model(torch.randn(2, 3, 50, 35)).shape == (2, 2, 50, 35)

    def test_its_weights_come_from_the_checkpoint(self, checkpoint):
        path, backbone = checkpoint
        add_to_smp('dyvit-test', arch=ARCH, checkpoint=path)
        image = torch.randn(1, 3, 64, 64)
        features = smp.Unet('dyvit-test', encoder_weights=None).encoder(image)
        assert features[0] is image and features[1].shape == (1, 0, 32, 32)
        assert all(map(torch.equal, features[2:], backbone(image)))
        with pytest.raises(UserError, match='images of 3 bands'):
            smp.Unet('dyvit-test', encoder_weights=None, in_channels=4)

    @pytest.mark.parametrize('make, message', [
        (lambda: smp.DeepLabV3('dyvit-test', encoder_weights=None), 'encoder_output_stride=8: .* stride 32'),
        (lambda: smp.Unet('dyvit-test', encoder_weights=None, encoder_depth=1, decoder_channels=(8, )), 'depth=1'),
        (lambda: add_to_smp('dyvit-test', in_channels=4), 'in_channels is given to the model')])
    def test_what_it_cannot_be_is_said_in_one_line(self, make, message):
        add_to_smp('dyvit-test', arch=ARCH)
        with pytest.raises(UserError, match=message):
            make()

    def test_without_the_library_one_line_says_so(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'segmentation_models_pytorch.encoders', None)
        with pytest.raises(UserError, match='pip install segmentation-models-pytorch'):
            add_to_smp('dyvit-test')


class TestTorchvision:

    @pytest.mark.parametrize('kind, patch_size', [(FasterRCNN, 16), (MaskRCNN, 32)])
    def test_its_detectors_train_and_predict_with_it(self, kind, patch_size):
        backbone = torchvision_backbone(ARCH, out_channels=16, patch_size=patch_size)
        assert list(backbone(torch.randn(1, 3, 64, 64))) == ['0', '1', '2', '3', 'pool']
        model = kind(backbone, num_classes=3, min_size=64, max_size=96, rpn_post_nms_top_n_train=20,
                     rpn_post_nms_top_n_test=20, box_batch_size_per_image=8, box_detections_per_img=4)
        images = [torch.rand(3, 64, 80), torch.rand(3, 70, 64)]
        boxes = torch.tensor([[4., 4., 40., 50.], [20., 10., 60., 60.]])
        masks = torch.zeros(2, 70, 80, dtype=torch.uint8)
        targets = [dict(boxes=boxes, labels=torch.tensor([1, 2]), masks=masks[:, :h, :w]) for h, w in ((64, 80), (70, 64))]
        losses = model(images, targets)
        assert len(losses) == 4 + (kind is MaskRCNN)
        learns(backbone, sum(losses.values()))
        found = model.eval()(images)
        assert len(found) == 2 and {'boxes', 'labels', 'scores'} <= found[0].keys()

    def test_with_fewer_stages_the_anchors_are_ones_own(self, checkpoint):
        backbone = torchvision_backbone(ARCH, checkpoint[0], out_channels=16, out_indices=(1, 2, 3))
        anchors = AnchorGenerator(((32, ), (64, ), (128, ), (256, )), ((.5, 1., 2.), ) * 4)
        model = FasterRCNN(backbone, 3, rpn_anchor_generator=anchors, min_size=64, max_size=64).eval()
        assert len(model([torch.rand(3, 64, 64)])) == 1
