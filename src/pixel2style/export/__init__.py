"""Export models as graphs that run without this package: ONNX files, and PyTorch's own export."""

from .graphs import PARTS, Graph, Part, graph_of
from .write import FORMS, OPSET, SUFFIXES, TOLERANCE, Difference, Exported, Form, differences, export_graph, export_into

__all__ = [
    "FORMS", "OPSET", "PARTS", "SUFFIXES", "TOLERANCE", "Difference", "Exported", "Form", "Graph", "Part",
    "differences", "export_graph", "export_into", "graph_of",
]  # fmt: skip
