"""ComfyUI graphs as nouns: read from both of their formats, checked against a schema of our own."""

from sosie.files.workflow.graph import Graph, Link, Node, Value
from sosie.files.workflow.nodes import node_type, node_types
from sosie.files.workflow.notation import Input, NodeType
from sosie.files.workflow.read import read_workflow

__all__ = ["Graph", "Input", "Link", "Node", "NodeType", "Value", "node_type", "node_types", "read_workflow"]
