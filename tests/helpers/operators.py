"""NMS and RoIAlign as their definitions read, in plain Python loops."""
import math


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
