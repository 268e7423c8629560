"""ExFuse once more, in plain PyTorch: an independent reading of the papers for the tests.

Written from a summary of the papers (ExFuse, arXiv 1804.03821; GCN, arXiv 1703.02719) and from the documented
arguments of `keras_exfuse.ExFuse`, without looking at the Keras code. It aims at being obviously right: no
fused computations, the formulas as the papers print them. It takes the backbone's four maps (B, C, H, W),
highest resolution first, and returns scores at four times the first map's size.

Four readings that neither the papers nor the arguments fix were taken over from the Keras code afterwards,
so this file proves nothing about them: a GCN that feeds the shuffle is refined behind it; a convolution with
batch normalization has no bias; the supervision heads' convolutions have 128 channels; a refinement
before densely adjacent prediction sees the margin of a wider deconvolution, which is cut off behind it.
"""

import math

import torch
from torch import nn
from torch.nn import functional


class GlobalConvolution(nn.Module):
    """(k x 1 then 1 x k) + (1 x k then k x 1), nothing between them."""

    def __init__(self, channels, filters, k):
        super().__init__()
        tall, wide = (
            {"kernel_size": (k, 1), "padding": (k // 2, 0)},
            {"kernel_size": (1, k), "padding": (0, k // 2)},
        )
        self.left_tall = nn.Conv2d(channels, filters, **tall)
        self.left_wide = nn.Conv2d(filters, filters, **wide)
        self.right_wide = nn.Conv2d(channels, filters, **wide)
        self.right_tall = nn.Conv2d(filters, filters, **tall)

    def forward(self, x):
        return self.left_wide(self.left_tall(x)) + self.right_tall(self.right_wide(x))


class BoundaryRefinement(nn.Module):
    """S + conv3x3(ReLU(conv3x3(S)))."""

    def __init__(self, channels, groups=1):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)

    def forward(self, scores):
        return scores + self.second(torch.relu(self.first(scores)))


class SemanticEmbedding(nn.Module):
    """low * product over the higher levels of Up(Conv3x3(scale * high)): first convolution, then upsampling."""

    def __init__(self, low_channels, high_channels, normalization, scaled, epsilon):
        super().__init__()
        self.scales = [1.0] * len(high_channels)
        if scaled and not normalization:
            # The power of two that is nearest to 8 over the square root of the fan-in, at most 1.
            logarithms = [math.log2(8 / math.sqrt(9 * c)) for c in high_channels]
            self.scales = [2.0 ** min(0, round(each)) for each in logarithms]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(c, low_channels, 3, padding=1, bias=not normalization) for c in high_channels
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(low_channels, eps=epsilon) if normalization else nn.Identity()
            for _ in high_channels
        )

    def forward(self, low, highs):
        result = low
        parts = zip(self.convolutions, self.norms, self.scales, highs, strict=True)
        for convolution, norm, scale, high in parts:
            gate = norm(convolution(scale * high))
            result = result * functional.interpolate(
                gate, size=low.shape[-2:], mode="bilinear", align_corners=False
            )
        return result


def depth_to_space(x, filters):
    """Pixel (2y + dy, 2x + dx) of channel c comes from channel (2 dy + dx) * filters + c of pixel (y, x)."""
    batch, _, height, width = x.shape
    out = x.new_zeros(batch, filters, 2 * height, 2 * width)
    for dy in range(2):
        for dx in range(2):
            part = 2 * dy + dx
            out[:, :, dy::2, dx::2] = x[:, part * filters : (part + 1) * filters]
    return out


def densely_adjacent_prediction(x, num_classes, k):
    """r[i, j] = 1/k^2 sum_{l, m} x^(l * k + m)[i + l - k // 2, j + m - k // 2], where all neighbors exist."""
    height, width = x.shape[-2] - (k - 1), x.shape[-1] - (k - 1)
    total = x.new_zeros(x.shape[0], num_classes, height, width)
    for l in range(k):  # noqa: E741, the paper's letters
        for m in range(k):
            group = x[:, (l * k + m) * num_classes : (l * k + m + 1) * num_classes]
            total = total + group[:, :, l : l + height, m : m + width]
    return total / k**2


class ClassificationHead(nn.Module):
    """Figure 3: 3x3 conv, 3x3 conv, global pool, FC, FC(classes)."""

    def __init__(self, channels, filters, units, num_classes):
        super().__init__()
        self.first = nn.Conv2d(channels, filters, 3, padding=1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)
        self.hidden = nn.Linear(filters, units)
        self.classes = nn.Linear(units, num_classes)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.classes(torch.relu(self.hidden(x.mean(dim=(2, 3)))))


class ReferenceExFuse(nn.Module):
    """Figure 2, from the four maps on."""

    def __init__(
        self,
        channels,
        num_classes,
        semantic_embedding=True,
        channel_resolution_embedding=True,
        densely_adjacent_prediction=True,
        semantic_supervision=False,
        kernel_size=7,
        deconvolution_kernel_size=4,
        window_size=3,
        adjacent_channels="last",
        refinement="after",
        expansion="convolution",
        embedding_normalization=False,
        embedding_scaled=True,
        epsilon=1e-3,
        head_filters=128,
        head_units=256,
    ):
        super().__init__()
        self.num_classes, self.window_size, self.refinement = num_classes, window_size, refinement
        self.densely_adjacent = densely_adjacent_prediction
        adjacent = num_classes * window_size**2 if densely_adjacent_prediction else num_classes
        wide = densely_adjacent_prediction and adjacent_channels == "all"
        width = self.width = adjacent if wide else num_classes
        kernels = [kernel_size] * 4 if isinstance(kernel_size, int) else kernel_size
        self.gcn_expands = channel_resolution_embedding and expansion == "global_convolution"
        self.subpixel = channel_resolution_embedding

        self.embeddings = nn.ModuleList()
        if semantic_embedding:
            for level in range(3):
                self.embeddings.append(
                    SemanticEmbedding(
                        channels[level],
                        channels[level + 1 :],
                        embedding_normalization,
                        embedding_scaled,
                        epsilon,
                    )
                )
        gcn_widths = [width, width, width, 4 * width if self.gcn_expands else width]
        self.gcns = nn.ModuleList(
            GlobalConvolution(c, w, k) for c, w, k in zip(channels, gcn_widths, kernels, strict=True)
        )
        self.gcn_refinements = nn.ModuleList(BoundaryRefinement(width) for _ in range(4))

        def deconvolution(filters, crop=True):
            margin = (deconvolution_kernel_size - 2) // 2
            return nn.ConvTranspose2d(
                width, filters, deconvolution_kernel_size, stride=2, padding=margin if crop else 0
            )

        if channel_resolution_embedding and not self.gcn_expands:
            self.expansion = nn.Conv2d(width, 4 * width, 3, padding=1)
        elif not channel_resolution_embedding:
            self.top_deconvolution = deconvolution(width)
        self.sum_refinements = nn.ModuleList(BoundaryRefinement(width) for _ in range(3))  # levels 3, 2, 1
        self.deconvolutions = nn.ModuleList(deconvolution(width) for _ in range(3))  # to levels 2, 1 and 256
        self.half_refinement = BoundaryRefinement(width)
        # Before densely adjacent prediction the last one keeps its margin, so that no border lacks neighbors.
        self.last_deconvolution = deconvolution(adjacent, crop=not densely_adjacent_prediction)
        self.margin = (deconvolution_kernel_size - 2) // 2
        before = densely_adjacent_prediction and refinement != "after"
        groups = window_size**2 if refinement == "before_grouped" and densely_adjacent_prediction else 1
        self.last_refinement = BoundaryRefinement(adjacent if before else num_classes, groups)
        self.heads = nn.ModuleList()
        if semantic_supervision:
            self.heads.extend(ClassificationHead(c, head_filters, head_units, num_classes) for c in channels)

    def forward(self, *maps):
        """Scores at four times the size of the first map."""
        return self.everything(*maps)["logits"]

    def everything(self, *maps):
        """The scores, ECRE's map, and the heads' scores of the four stages."""
        stages = list(maps)
        fused = list(stages)
        for level, embedding in enumerate(self.embeddings):
            fused[level] = embedding(stages[level], stages[level + 1 :])
        scores = [gcn(x) for gcn, x in zip(self.gcns, fused, strict=True)]
        refine = self.gcn_refinements
        lower = [refine[level](scores[level]) for level in range(3)]
        if self.gcn_expands:
            top = refine[3](depth_to_space(scores[3], self.width))
        elif self.subpixel:
            top = depth_to_space(self.expansion(refine[3](scores[3])), self.width)
        else:
            top = self.top_deconvolution(refine[3](scores[3]))
        x = top
        for index, level in enumerate((2, 1, 0)):
            x = self.sum_refinements[index](x + lower[level])
            x = self.deconvolutions[index](x)
        logits = self.last_part(self.half_refinement(x))
        if self.width != self.num_classes:
            # The supervised map has one channel a class; neighbors outside the map count as zero.
            margin = [self.window_size // 2] * 4
            top = densely_adjacent_prediction(functional.pad(top, margin), self.num_classes, self.window_size)
        heads = [head(stage) for head, stage in zip(self.heads, stages, strict=False)]
        return {"logits": logits, "top": top, "heads": heads}

    def last_part(self, x):
        """The deconvolution to full size, densely adjacent prediction and the last refinement."""
        x = self.last_deconvolution(x)
        if not self.densely_adjacent:
            return self.last_refinement(x)
        if self.refinement != "after":
            x = self.last_refinement(x)
        spare = self.margin - self.window_size // 2
        if spare:
            x = x[:, :, spare:-spare, spare:-spare]
        x = densely_adjacent_prediction(x, self.num_classes, self.window_size)
        return self.last_refinement(x) if self.refinement == "after" else x
