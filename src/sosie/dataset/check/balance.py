"""Whether a training set shows enough of a person: framing and the turn of the head."""

from __future__ import annotations

from collections.abc import Sequence

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.dataset.check.report import FRONTAL_DEGREES, Balance, DatasetImage

T030 = Rule("SOS-T030", "warning", "Close-ups only: the body cannot be learned")
T031 = Rule("SOS-T031", "warning", "Full bodies only: the face cannot be learned")
T032 = Rule("SOS-T032", "warning", "Frontal heads only")
T033 = Rule("SOS-T033", "info", "Heads are turned to one side only")

ENOUGH = 5
"""Of fewer faces no balance is judged."""

NEARLY_ALL = 0.9


def balance_of(images: Sequence[DatasetImage]) -> Balance:
    """Counts of framing and yaw."""
    framings = [image.framing for image in images]
    yaws = [image.yaw for image in images if image.yaw is not None]
    return Balance(
        close_up=framings.count("close-up"),
        half_body=framings.count("half body"),
        full_body=framings.count("full body"),
        frontal=sum(1 for yaw in yaws if abs(yaw) < FRONTAL_DEGREES),
        left=sum(1 for yaw in yaws if yaw <= -FRONTAL_DEGREES),
        right=sum(1 for yaw in yaws if yaw >= FRONTAL_DEGREES),
        no_face=framings.count(None),
    )


def check_balance(balance: Balance) -> list[Finding]:
    """SOS-T030 to T033, judged on the images with a face if there are five or more."""
    faces = balance.faces
    if faces < ENOUGH:
        return []
    findings: list[Finding] = []
    shares = f"{balance.close_up} close-ups, {balance.half_body} half bodies, {balance.full_body} full bodies"
    if balance.close_up >= NEARLY_ALL * faces and balance.full_body == 0:
        message = f"{shares}: a dataset of close-ups only cannot learn the body"
        hint = "add pictures of the upper half and of the whole body, about a third each"
        findings.append(T030.at("balance", message, hint))
    if balance.full_body >= NEARLY_ALL * faces and balance.close_up == 0:
        message = f"{shares}: full bodies only: the body will be learned well, the face not"
        hint = "add close-ups of the face in several poses and kinds of light, about a third"
        findings.append(T031.at("balance", message, hint))
    if balance.frontal >= NEARLY_ALL * faces:
        message = (
            f"{balance.frontal} of {faces} heads face the camera (within {FRONTAL_DEGREES:.0f} degrees): turned heads "
            "will not look like the character"
        )
        hint = "add heads turned to the left and to the right"
        findings.append(T032.at("balance", message, hint))
    elif min(balance.left, balance.right) == 0 and max(balance.left, balance.right) >= ENOUGH:
        side = "left" if balance.left else "right"
        message = (
            f"{max(balance.left, balance.right)} of {faces} heads are turned to the {side}, none to the other side"
        )
        hint = "add heads turned to the other side, or mirror some pictures if the face has no mark on one side"
        findings.append(T033.at("balance", message, hint))
    return findings
