"""Writes aeon.npz: small files of the UCR and UEA formats, and the values that aeon's own loaders read from them.

pip install aeon numpy
python tests/golden/make_aeon.py [FOLDER]

    small/NAME/text           the file
    small/NAME/values         [S, D], the steps of all sequences
    small/NAME/lengths        [N]
    small/NAME/labels         [N], text
    archive/NAME/...          of each file in FOLDER: shape [N, S, D], the SHA-256 of the values as float64 and of the
                              labels, and the first sequence
"""
# pyright: reportMissingImports=false

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from aeon.datasets import load_from_arff_file, load_from_ts_file, load_from_tsv_file

SMALL = {
    "univariate.ts": """# A comment.
@problemName Small
@timeStamps false
@missing false
@univariate true
@equalLength true
@seriesLength 3
@classLabel true up down
@data
1.5,2,3e-1:up
-0.25,1e3,-7.125:down
0.1,.5,6.:up
""",
    "unequal.ts": """@CLASSLABEL TRUE b a
@EqualLength FALSE
@dimensions 2
@UNIVARIATE false
@missing true
@problemname Shuffled
@timestamps FALSE

@Data
1,2,3:4,?,6:a
7:8:b
?,0.1:0.2,NaN:a
""",
    "regression.ts": """@problemName Regression
@timestamps false
@univariate false
@equallength true
@targetlabel true
@data
1,2:3,4:0.5
5,6:7,8:-1.25e1
""",
    "univariate.arff": """% A comment.
@RELATION small

@attribute att0 numeric
@attribute att1 NUMERIC
@ATTRIBUTE att2 real
@attribute target {1,2}

@DATA
1.5,2,0.3,1
-0.25,?,-7.125,2
""",
    "multivariate.arff": """@relation 'many channels'
@attribute bag relational
@attribute att0 numeric
@attribute att1 numeric
@attribute att2 numeric
@end bag
@attribute class {Left,Right}
@data
'1,2,3\\n4,5.5,6',Left
'-1,-2,-3\\n?,0.25,1e-3',Right
""",
    "univariate.tsv": "2\t0.5\t-1.25\t3\n1\t1e-2\t7\t8.125\n",
}
LOADERS = {".ts": load_from_ts_file, ".arff": load_from_arff_file, ".tsv": load_from_tsv_file}


def load(path):
    """Reads a file with aeon: (values [S, D], lengths [N], labels as text [N])."""
    sequences, labels = LOADERS[path.suffix](str(path))
    values = np.concatenate([sequence.T for sequence in sequences])
    return values, np.array([sequence.shape[1] for sequence in sequences]), np.array([str(label) for label in labels])


def digest(array):
    """The SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


arrays = {}
with tempfile.TemporaryDirectory() as folder:
    for name, text in SMALL.items():
        path = Path(folder, name)
        path.write_text(text)
        values, lengths, labels = load(path)
        arrays |= {f"small/{name}/text": np.array(text), f"small/{name}/values": values}
        arrays |= {f"small/{name}/lengths": lengths, f"small/{name}/labels": labels}
for path in sorted(Path(sys.argv[1]).iterdir()) if sys.argv[1:] else []:
    if path.suffix in LOADERS:
        values, lengths, labels = load(path)
        name = f"archive/{path.name}"
        arrays |= {f"{name}/shape": np.array([len(lengths), *values.shape]), f"{name}/sha256": np.array(digest(values))}
        arrays |= {f"{name}/labels": np.array(hashlib.sha256("\n".join(labels).encode()).hexdigest())}
        arrays |= {f"{name}/first": values[: lengths[0]].astype(np.float32)}
file = Path(__file__).with_name("aeon.npz")
np.savez_compressed(file, **arrays)
print(f"{file.name}: {len(arrays)} arrays, {file.stat().st_size / 1e3:.0f} kB")
