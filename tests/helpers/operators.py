"""mmcv's operators as their definitions read, in plain Python loops."""
import math

import pytest
import torch

NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')]
DEVICES = ['cpu', pytest.param('cuda', marks=NEEDS_GPU)]
HALVES = [torch.float16, torch.bfloat16]


def iou(a, b, offset):
    """Intersection over union of two boxes (x1, y1, x2, y2) whose sides are x2 - x1 + offset."""
    width = max(0., min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0., min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a, area_b = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    union = area_a + area_b - width * height
    return width * height / union if union else 0.


def nms(boxes, scores, iou_threshold, offset):
    """Indices of the boxes that no better-scored kept box overlaps by more than the threshold, best first."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j], offset) <= iou_threshold for j in kept):
            kept.append(i)
    return kept


def sample_weights(y, x, height, width):
    """The pixels and weights of one bilinear sample: {(row, column): weight}, empty more than 1 px outside."""
    if y < -1 or y > height or x < -1 or x > width:
        return {}
    y, x = (min(max(v, 0.), size - 1.) for v, size in ((y, height), (x, width)))
    weights = {}
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            if weight:
                weights[row, column] = weight
    return weights


def roi_align(features, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """Mean of the bilinear samples in each bin.

    Args:
        features (Tensor): (B, C, H, W).
        rois (Tensor): (N, 5).
        output_size (tuple): rows and columns of the grid.
        spatial_scale (float): from the RoIs' pixels to those of the features.
        sampling_ratio (int): samples per bin and side, 0 for one per pixel.
        aligned (bool): whether pixel centres lie at half coordinates.

    Returns:
        Tensor: (N, C, *output_size), differentiable with respect to the features.
    """
    rows, columns = output_size
    height, width = features.shape[2:]
    output = features.new_zeros(len(rois), features.shape[1], rows, columns)
    for n, (index, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * spatial_scale - 0.5 * aligned for c in corners)
        roi_width, roi_height = x2 - x1, y2 - y1
        if not aligned:
            roi_width, roi_height = max(roi_width, 1.), max(roi_height, 1.)
        samples_y = sampling_ratio or math.ceil(roi_height / rows)
        samples_x = sampling_ratio or math.ceil(roi_width / columns)
        for row in range(rows):
            for column in range(columns):
                for i in range(samples_y):
                    for j in range(samples_x):
                        y = y1 + (row + (i + 0.5) / samples_y) * roi_height / rows
                        x = x1 + (column + (j + 0.5) / samples_x) * roi_width / columns
                        for (r, c), weight in sample_weights(y, x, height, width).items():
                            output[n, :, row, column] += weight * features[int(index), :, r, c]
                output[n, :, row, column] /= max(samples_y * samples_x, 1)
    return output


def focal(logits, target, gamma, alpha, weight=None):
    """Sigmoid focal loss of each sample and class, (N, C) floats."""
    losses = []
    for row, label in zip(logits, target, strict=True):
        losses.append([])
        for c, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            loss = (-alpha * (1 - p)**gamma * math.log(p) if c == label else
                    -(1 - alpha) * p**gamma * math.log(1 - p))
            losses[-1].append(loss * (weight[label] if weight else 1))
    return losses


def interpolate(features, y, x):
    """The bilinear sample of (C, H, W) at y and x, with zeros around; differentiable with respect to all three."""
    height, width = features.shape[1:]
    total = features.new_zeros(len(features))
    if not (-1 < y < height and -1 < x < width):
        return total
    top, left = math.floor(float(y.detach())), math.floor(float(x.detach()))
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * features[:, row, column]
    return total


def ms_deform_attn(value, shapes, locations, weights):
    """(B, Q, M * D): Weighted sums of samples of each head's maps, of the arguments of mmcv's function."""
    batch, _, heads, _ = value.shape
    rows = []
    for b in range(batch):
        for q in range(locations.shape[1]):
            for m in range(heads):
                total, start = 0, 0
                for level, (height, width) in enumerate(shapes):
                    maps = value[b, start:start + height * width, m].T.reshape(-1, height, width)
                    for place, weight in zip(locations[b, q, m, level], weights[b, q, m, level], strict=True):
                        total = total + weight * interpolate(maps, place[1] * height - 0.5, place[0] * width - 0.5)
                    start += height * width
                rows.append(total)
    return torch.stack(rows).view(batch, locations.shape[1], -1)


def deform_conv(input, offset, mask, weight, bias, stride, padding, dilation, groups, offset_groups):
    """Deformable convolution, one product at a time; `mask` and `bias` may be None."""
    channels_out, channels, *kernel = weight.shape
    rows, columns = ((size + 2 * padding - dilation * (side - 1) - 1) // stride + 1
                     for size, side in zip(input.shape[2:], kernel, strict=True))
    taps = kernel[0] * kernel[1]
    outputs = []
    for b in range(len(input)):
        for c in range(channels_out):
            first = c // (channels_out // groups) * channels
            for row in range(rows):
                for column in range(columns):
                    total = input.new_zeros(()) if bias is None else bias[c]
                    for k in range(channels):
                        group = (first + k) // (input.shape[1] // offset_groups)
                        for tap in range(taps):
                            at = group * taps + tap
                            y = row * stride - padding + tap // kernel[1] * dilation + offset[b, 2 * at, row, column]
                            x = column * stride - padding + tap % kernel[1] * dilation + offset[b, 2 * at + 1, row, column]
                            sample = interpolate(input[b, first + k][None], y, x)[0]
                            sample = sample * (1 if mask is None else mask[b, at, row, column])
                            total = total + weight[c, k, tap // kernel[1], tap % kernel[1]] * sample
                    outputs.append(total)
    return torch.stack(outputs).view(len(input), channels_out, rows, columns)


def carafe(features, masks, kernel_size, groups, scale):
    """Upsampling with a kernel for each pixel, one product at a time."""
    batch, channels, height, width = features.shape
    output = features.new_zeros(batch, channels, height * scale, width * scale)
    for c in range(channels):
        group = c // (channels // groups)
        for row in range(height * scale):
            for column in range(width * scale):
                for tap in range(kernel_size**2):
                    y = row // scale + tap // kernel_size - kernel_size // 2
                    x = column // scale + tap % kernel_size - kernel_size // 2
                    if 0 <= y < height and 0 <= x < width:
                        kernel = masks[:, group * kernel_size**2 + tap, row, column]
                        output[:, c, row, column] = output[:, c, row, column] + features[:, c, y, x] * kernel
    return output


def psa_mask(input, kind, mask_size):
    """PSANet's masks of surroundings as attention over all positions, one value at a time."""
    batch, _, height, width = input.shape
    output = input.new_zeros(batch, height * width, height, width)
    for row in range(height):
        for column in range(width):
            for tap in range(mask_size[0] * mask_size[1]):
                y = row + tap // mask_size[1] - (mask_size[0] - 1) // 2
                x = column + tap % mask_size[1] - (mask_size[1] - 1) // 2
                if 0 <= y < height and 0 <= x < width:
                    value = input[:, tap, row, column]
                    if kind == 'collect':
                        output[:, y * width + x, row, column] = value
                    else:
                        output[:, row * width + column, y, x] = value
    return output


def pooled(features, rois, offset, output_size, scale, ratio, gamma, reduce):
    """Each RoI's bins, moved by their offsets, reduced from bilinear samples; aligned, (N, C, *output_size)."""
    rows, columns = output_size
    height, width = features.shape[2:]
    outputs = []
    for n, (index, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - 0.5 for c in corners)
        samples_y, samples_x = (ratio or math.ceil(side) for side in ((y2 - y1) / rows, (x2 - x1) / columns))
        for row in range(rows):
            for column in range(columns):
                moved = (0, 0) if offset is None else offset[n, :, row, column]
                samples = []
                for i in range(samples_y):
                    for j in range(samples_x):
                        y = y1 + (row + (i + 0.5) / samples_y) * (y2 - y1) / rows + gamma * (y2 - y1) * float(moved[1])
                        x = x1 + (column + (j + 0.5) / samples_x) * (x2 - x1) / columns + gamma * (x2 - x1) * float(moved[0])
                        weights = sample_weights(y, x, height, width)
                        samples.append(sum((w * features[int(index), :, r, c] for (r, c), w in weights.items()),
                                           features.new_zeros(features.shape[1])))
                outputs.append(reduce(torch.stack(samples)))
    return torch.stack(outputs).view(len(rois), rows, columns, -1).permute(0, 3, 1, 2)


def soft_nms(boxes, scores, iou_threshold, sigma, min_score, method, offset):
    """The rows (index, score) that soft NMS keeps; as in mmcv's loop, the last one goes where one is dropped."""
    rows = [[i, box, score] for i, (box, score) in enumerate(zip(boxes, scores, strict=True))]
    i = 0
    while i < len(rows):
        best = max(range(i, len(rows)), key=lambda j: (rows[j][2], -j))
        rows[i], rows[best] = rows[best], rows[i]
        j = i + 1
        while j < len(rows):
            overlap = iou(rows[i][1], rows[j][1], offset)
            if method == 'gaussian':
                rows[j][2] *= math.exp(-overlap**2 / sigma)
            elif overlap >= iou_threshold:
                rows[j][2] *= 0 if method == 'naive' else 1 - overlap
            if rows[j][2] < min_score:
                last = rows.pop()
                if j < len(rows):
                    rows[j] = last
            else:
                j += 1
        i += 1
    return [(index, score) for index, _, score in rows]
