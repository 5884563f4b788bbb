"""Why an engine cannot run a stage: the rules that several engines and families give."""

from __future__ import annotations

from sosie.core.finding import Rule

E001 = Rule("SOS-E001", "error", "A stage cannot run on this engine")
E002 = Rule("SOS-E002", "error", "A sampler is not known")
E004 = Rule("SOS-E004", "error", "Packages that generate on this machine are not installed")
E006 = Rule("SOS-E006", "error", "A guide with key points has no face to take them from")
E007 = Rule("SOS-E007", "error", "The working square of a face pass has an odd size")
E008 = Rule("SOS-E008", "error", "An identity guide is incomplete")
