"""Feature names in the grammar of CPJUMP1: three compartments, eight channels, 5,792 features."""

from __future__ import annotations

from itertools import combinations, permutations

CHANNELS = ("AGP", "BFHigh", "BFLow", "Brightfield", "DNA", "ER", "Mito", "RNA")
_HARALICK = [
    "AngularSecondMoment",
    "Contrast",
    "Correlation",
    "DifferenceEntropy",
    "DifferenceVariance",
    "Entropy",
    "InfoMeas1",
    "InfoMeas2",
    "InverseDifferenceMoment",
    "SumAverage",
    "SumEntropy",
    "SumVariance",
    "Variance",
]
_SHAPES = [
    "Area",
    "BoundingBoxArea",
    "Compactness",
    "ConvexArea",
    "Eccentricity",
    "EquivalentDiameter",
    "EulerNumber",
    "Extent",
    "FormFactor",
    "MajorAxisLength",
    "MaxFeretDiameter",
    "MaximumRadius",
    "MeanRadius",
    "MedianRadius",
    "MinFeretDiameter",
    "MinorAxisLength",
    "Orientation",
    "Perimeter",
    "Solidity",
]
_INTENSITIES = [
    "IntegratedIntensityEdge",
    "IntegratedIntensity",
    "LowerQuartileIntensity",
    "MADIntensity",
    "MassDisplacement",
    "MaxIntensityEdge",
    "MaxIntensity",
    "MeanIntensityEdge",
    "MeanIntensity",
    "MedianIntensity",
    "MinIntensityEdge",
    "MinIntensity",
    "StdIntensityEdge",
    "StdIntensity",
    "UpperQuartileIntensity",
]
_RINGS = [f"{ring}of{rings}" for rings in (16, 20) for ring in range(1, rings + 1)] + ["Overflow"]
_RADIAL = ("FracAtD", "MeanFrac", "RadialCV")


def _of_compartment(compartment: str) -> list[str]:
    names = [f"AreaShape_{name}" for name in _SHAPES]
    names += [f"AreaShape_Zernike_{n}_{m}" for n in range(10) for m in range(n % 2, n + 1, 2)]
    for how in ("Correlation", "Overlap"):
        names += [f"Correlation_{how}_{a}_{b}" for a, b in combinations(CHANNELS, 2)]
    for how in ("K", "Manders", "RWC"):
        names += [f"Correlation_{how}_{a}_{b}" for a, b in permutations(CHANNELS, 2)]
    names += [f"Granularity_{scale}_{channel}" for scale in range(1, 17) for channel in CHANNELS]
    names += [f"Intensity_{how}_{channel}" for how in _INTENSITIES for channel in CHANNELS]
    if compartment != "Cytoplasm":
        names += [
            f"Neighbors_{how}_Adjacent" for how in ("FirstClosestDistance", "NumberOfNeighbors", "PercentTouching")
        ]
    names += [
        f"RadialDistribution_{how}_{channel}_{i}of4" for how in _RADIAL for channel in CHANNELS for i in range(1, 5)
    ]
    if compartment != "Nuclei":
        names += [f"RadialDistribution_{how}_mito_tubeness_{ring}" for how in _RADIAL for ring in _RINGS]
    names += [
        f"Texture_{how}_{channel}_{scale}_{angle:02d}_256"
        for how in _HARALICK
        for channel in CHANNELS
        for scale in (3, 5, 10)
        for angle in range(4)
    ]
    return [f"{compartment}_{name}" for name in names]


ALL = [name for compartment in ("Cells", "Cytoplasm", "Nuclei") for name in _of_compartment(compartment)]
N_CPJUMP1 = 5_792


def feature_names(count: int) -> list[str]:
    """So many names, spread over all groups of features.

    >>> feature_names(3)
    ['Cells_AreaShape_Area', 'Cells_Texture_Variance_DNA_10_02_256', 'Cytoplasm_Texture_Variance_BFHigh_10_03_256']
    """
    if not 0 < count <= len(ALL):
        raise ValueError(f"1 to {len(ALL)} features, not {count}")
    return [ALL[i * len(ALL) // count] for i in range(count)]
