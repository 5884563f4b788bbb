"""What a family may bring, one file a noun. Only `parts` (`sosie.files.signature`) is needed; the rest may be missing.

    family.py     Family: the parts, by name
    partners.py   Partners, Range: what a denoiser is put together with, and the settings that it was made for
    figures.py    Figures: memory, disk, and the precisions that fail
    guides.py     Guides: the identity guides that were trained for it
    draws.py      OnDiffusers, Runner, StageInput, StageOutput: stages in this process
    graphs.py     OnComfy, GraphStage: stages as nodes of ComfyUI
    trains.py     Trains, Base: LoRAs are trained
    stage.py      PlannedStage: what all that draw are given

Its LoRAs are described by `sosie.lora.LoraSupport`, node classes of its own by `sosie.graph.nodes.NodePack`.
Nothing here imports torch. The smallest family that brings all of it is `tests/support/toy`.
"""
