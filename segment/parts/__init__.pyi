from .hierarchy import Part as Part, PartHierarchy as PartHierarchy
