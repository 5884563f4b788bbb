"""The toy in this process: it pastes the guide's face onto the colour that the model holds. No torch."""

from __future__ import annotations

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from sosie.core import Finding, Plan, Stage
from sosie.families import guides_of
from sosie.families.contract.draws import Settings, StageInput, StageOutput
from sosie.families.contract.guides import conditionings


def check(stage: Stage, plan: Plan) -> list[Finding]:
    if stage.kind == "generate":
        return []
    return [Finding("SOS-E001", "error", plan.recipe, f"Toy has no stage '{stage.kind}'; expected generate")]


def runner(device: str, settings: Settings) -> Runner:
    return Runner()


class Runner:
    def run(self, given: StageInput) -> StageOutput:
        colour = load_file(given.paths[given.stage.model])["toy.embed.weight"].flatten()[:3]
        shade = np.clip(colour * 255 + given.seed % 16, 0, 255).astype(np.uint8)
        image = Image.new("RGB", (given.plan.width, given.plan.height), tuple(map(int, shade)))
        for _, guided in conditionings(guides_of("toy"), given):
            face = guided.images[0]
            image.paste(face, ((image.width - face.width) // 2, (image.height - face.height) // 2))
        for step in range(given.stage.sampler.steps):
            given.on_step(step + 1, given.stage.sampler.steps)
        return StageOutput(image)

    def rest(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""
