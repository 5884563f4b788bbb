"""The training resolutions of about one megapixel, and which images suit them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.dataset.check.report import Bucket, DatasetImage
from sosie.dataset.names import listed

T020 = Rule("SOS-T020", "warning", "The crop to a bucket cuts much away")
T021 = Rule("SOS-T021", "warning", "Images are smaller than their bucket")

BUCKETS: tuple[tuple[int, int], ...] = (
    (1024, 1024),
    (1152, 896),
    (896, 1152),
    (1216, 832),
    (832, 1216),
    (1344, 768),
    (768, 1344),
    (1536, 640),
    (640, 1536),
)
"""Width and height. Those SDXL was tuned on (Podell et al. 2023, appendix I, the common nine); Z-Image,
whose sides are multiples of 16, is trained at the same ones."""

MAX_ENLARGED = 1.05
MAX_CUT = 0.2


def bucket_of(width: int, height: int) -> tuple[int, int]:
    """The bucket whose aspect ratio is nearest (on a logarithmic scale)."""
    ratio = math.log(width / height)
    return min(BUCKETS, key=lambda size: abs(math.log(size[0] / size[1]) - ratio))


def enlargement(image: DatasetImage) -> float:
    """By how much the image must be enlarged to cover its bucket; 1 or less: it is large enough."""
    return max(image.bucket[0] / image.width, image.bucket[1] / image.height)


def cut(image: DatasetImage) -> float:
    """The share (0 to 1) of the picture that is cut away when it covers its bucket."""
    ratio = (image.width / image.height) / (image.bucket[0] / image.bucket[1])
    return 1 - min(ratio, 1 / ratio)


def count_buckets(images: Sequence[DatasetImage]) -> tuple[Bucket, ...]:
    """The buckets in use, the fullest first."""
    counts = Counter(image.bucket for image in images)
    return tuple(Bucket(*size, count) for size, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def check_sizes(images: Sequence[DatasetImage]) -> list[Finding]:
    """SOS-T021 for images that would be enlarged by more than 5 %, SOS-T020 for those cut by more than 20 %."""
    findings: list[Finding] = []
    small = [image for image in images if enlargement(image) > MAX_ENLARGED]
    if small:
        worst = max(small, key=enlargement)
        message = (
            f"{len(small)} of {len(images)} images are smaller than their bucket: "
            f"{listed([image.file for image in small])}; the smallest has {worst.width} x {worst.height} px and would "
            f"be enlarged {enlargement(worst):.1f} times to {worst.bucket[0]} x {worst.bucket[1]} px: a LoRA learns "
            "the softness"
        )
        hint = "use larger originals, or train at the size that they have (512 or 768 px)"
        findings.append(T021.at("sizes", message, hint))
    narrow = [image for image in images if cut(image) > MAX_CUT]
    if narrow:
        message = (
            f"{len(narrow)} of {len(images)} images lose more than {MAX_CUT:.0%} to the crop: "
            f"{listed([image.file for image in narrow])}; expected sides between 1:2.4 and 2.4:1"
        )
        hint = "crop them by hand, so that head and feet stay in the picture"
        findings.append(T020.at("sizes", message, hint))
    return findings
