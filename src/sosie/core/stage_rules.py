"""Why an engine cannot run a stage: the rules that several engines and families give."""

from __future__ import annotations

from sosie.core.finding import Rule

E001 = Rule("SOS-E001", "error", "A family has no stage of this kind")
E002 = Rule("SOS-E002", "error", "A sampler is not known")
E004 = Rule("SOS-E004", "error", "Packages that generate on this machine are not installed")
E006 = Rule("SOS-E006", "error", "A guide with key points has no face to take them from")
E007 = Rule("SOS-E007", "error", "The working square of a face pass has an odd size")
E008 = Rule("SOS-E008", "error", "An identity guide is incomplete")
E010 = Rule("SOS-E010", "error", "A stage lacks a file that ComfyUI loads separately")
E011 = Rule("SOS-E011", "error", "A stage names a file that the family does not take")
E012 = Rule("SOS-E012", "error", "A family has no node for an identity guide")
E014 = Rule("SOS-E014", "error", "A precision overflows in a family")
