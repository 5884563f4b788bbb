"""ComfyUI graphs as nouns: read from both of their formats, checked against a schema of our own."""

from sosie.graph.graph import Graph, Link, Node, Value
from sosie.graph.nodes import node_type, node_types
from sosie.graph.notation import Input, NodeType
from sosie.graph.read import read_workflow

__all__ = ["Graph", "Input", "Link", "Node", "NodeType", "Value", "node_type", "node_types", "read_workflow"]
