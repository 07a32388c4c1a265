#!/usr/bin/env bash
# Pack what a GPU machine without a network lacks, in two parts of less than 60 MB each.
#
#   benchmarks/pack_gpu.sh [SOURCE …]
#
# .gpu/first    wheels, and the images of the first half of CIFAR-100's classes
# .gpu/second   those of the other half
#
# SOURCE is what `dissect-embed classes --source` takes; by default the folder of CIFAR-100 beside
# this checkout or the one that was downloaded. Images that are WebP already keep their bytes, others
# become lossless WebP. Without any source only the wheels are packed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
# Torch, torchvision, NumPy, SciPy, h5py, Pillow, matplotlib, scikit-learn, jaxtyping, typer, rich and
# pytest are there. Lacking are: tensorboardX, for the curves of a training; beartype, with which the
# tests check shapes. What else is lacking (altair and vl-convert of the atlas, Snakemake, playwright)
# nothing that is measured imports.
wheels=(tensorboardX beartype)
sources=("$@")
if ((! $#)); then
  for folder in ../shared/data/cifar100 data/cifar100; do
    [ -d "$folder" ] && sources=("$folder") && break
  done
fi
rm -rf .gpu/first .gpu/second
mkdir -p .gpu/first .gpu/second
"$python" -m pip download --quiet --no-deps --only-binary=:all: --dest .gpu/first "${wheels[@]}"
if ((${#sources[@]})); then
  "$python" benchmarks/pack_classes.py "${sources[@]}" \
    --output .gpu/first/cifar100-1.tar.gz --output .gpu/second/cifar100-2.tar.gz
else
  echo "no CIFAR-100 in data/cifar100: name it as SOURCE; only the wheels are packed" >&2
fi
for part in .gpu/first .gpu/second; do
  size=$(du -sb "$part" | cut -f 1)
  echo "$part: $((size / 1000000)) MB"
  if ((size >= 60000000)); then
    echo "$part: $size bytes, expected less than 60 MB" >&2
    exit 1
  fi
done
