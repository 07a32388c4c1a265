#!/usr/bin/env bash
# Measure and check all that needs a CUDA device, in two calls of a few minutes each.
#
#   benchmarks/gpu.sh first  OUT [--small]    tests, dissection, embedding, steps of training
#   benchmarks/gpu.sh second OUT [--small]    a corner of Table 1 on CIFAR-100
#
# Every part writes OUT/<part>.json at once, has a time limit of its own, and is not done again where
# its file is there. A part that fails says so in a line, its output lies in OUT/<part>.log, and the
# next one begins. --small goes through all of it with a hundredth of the work, also without a GPU.
# What is large or can be made again lies in OUT.work.
#
# MINUTES   of the whole call, by default 9 and 5
# EPOCHS    of every training of the second call, by default as many as fit; those that were cut off
#           go on from OUT/table1 in another call with the same EPOCHS
# JOBS      trainings at once, by default 3
# PARTS     only these, by default all
# PYTHON    by default python3
set -uo pipefail
cd "$(dirname "$0")/.." || exit

usage() {
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
(($# == 2)) || { (($# == 3)) && [ "$3" = --small ]; } || usage
call=$1 small=${3:+yes}
case $call in
first) minutes=${MINUTES:-9} ;;
second) minutes=${MINUTES:-5} ;;
*) usage ;;
esac
mkdir -p "$2" "$2.work" || exit
out=$(cd "$2" && pwd)
work=$out.work
python=${PYTHON:-python3}
deadline=$((minutes * 60))
export PYTHONPATH=$PWD:$work/site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 TYPER_STANDARD_TRACEBACK=1 TMPDIR=$work

# part NAME SECONDS COMMAND…: run a command that writes OUT/NAME.json, unless it is there.
part() {
  local name=$1 limit=$2 log=$work/${1//\//-}.log began=$SECONDS status
  shift 2
  [[ -z ${PARTS:-} || " $PARTS " = *" $name "* ]] || return 0
  if [ -f "$out/$name.json" ] && ! grep -q '"done": false' "$out/$name.json"; then
    echo "$name: there already"
    return
  fi
  ((limit < deadline - SECONDS)) || limit=$((deadline - SECONDS))
  if ((limit < 2)); then
    echo "$name: left out, no time left"
    return 1
  fi
  timeout -k 5 "$limit" "$@" >"$log" 2>&1
  status=$?
  case $status in
  0) echo "$name: $((SECONDS - began)) s" ;;
  124 | 137) echo "$name: stopped after $limit s; what it had measured is kept" ;;
  *) echo "$name: failed: $(grep -v '^ *$' "$log" | tail -n 1 | cut -c 1-300)" ;;
  esac
  cp "$log" "$out/${name//\//-}.log" 2>/dev/null
  return $status
}

# As part, for a command that writes no JSON: its seconds are what is kept.
timed() {
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" "$python" benchmarks/gpu_report.py timed "$out/$name.json" "$@"
}

lacks_device() {
  [ "$device" = none ] || return
  echo "$1: left out, torch finds no CUDA device here (--small goes through on a processor)"
}

# As part, for what only says something of a CUDA device.
on_device() { lacks_device "$1" || part "$@"; }

if ! "$python" -c 'import beartype, tensorboardX' 2>/dev/null; then
  if compgen -G '.gpu/first/*.whl' >/dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$work/site" \
      .gpu/first/*.whl || echo "wheels: not installed; trainings and tests will fail"
  else
    echo "wheels: none in .gpu/first (benchmarks/pack_gpu.sh makes it); trainings will fail"
  fi
fi
device=$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "none")' \
  2>/dev/null || echo none)
[ "$device" = none ] && [ -n "$small" ] && device=cpu
dissect_embed=("$python" -m dissect_embed)

first() {
  local few=2000 many=20000 some=500 rounds=(--rounds 10 --repeat 2) repeat=1 embed=(100 200)
  local networks=() tests=tests caches=(--cache all --cache none)
  local batches=(--bare-batch 128 --batch-size 128) precisions=(float32 tf32 bfloat16)
  if [ -n "$small" ]; then
    few=10 many=12 some=6 repeat=1 embed=(1 2)
    rounds=(--rounds 1 --repeat 1 --batch-size 2)
    networks=(resnet20 vgg8 resnet56) tests=tests/test_device.py caches=(--cache none)
    batches=(--bare-batch 8 --batch-size 8)
    [ "$device" = cpu ] && precisions=(float32)
  fi
  local kinds=("${precisions[@]/#/--precision=}")
  part environment 60 "$python" benchmarks/gpu_report.py environment "$out/environment.json"
  timed mini 60 "${dissect_embed[@]}" mini --images $few --output "$work/mini"
  # Tests take one core or a few: the large data set is rendered beside them.
  timed mini-large 150 "${dissect_embed[@]}" mini --images $many --output "$work/mini-large" &
  on_device tests 120 "$python" benchmarks/gpu_report.py tests "$out/tests.json" $tests
  wait
  on_device dissect 100 "$python" benchmarks/dissect.py "$work/mini" --images $few \
      --repeat $repeat "${batches[@]}" "${kinds[@]}" --cache all --cache none \
      --device "$device" --json "$out/dissect.json"
  on_device precision 60 "$python" benchmarks/precision.py "$work/mini" --images $some \
      --device "$device" --json "$out/precision.json"
  on_device training 90 "$python" benchmarks/training.py "${networks[@]}" "${rounds[@]}" \
      --device "$device" --json "$out/training.json"
  on_device stages 120 "$python" benchmarks/memory.py --images $few --weights random \
      --epochs "${embed[0]}" --steps "${embed[1]}" --stage mini --stage activations \
      --stage labels --stage dissect --stage chance --stage similarity --stage embed --stage "embed, cpu" \
      --device "$device" --json "$out/stages.json"
  on_device dissect-large 300 "$python" benchmarks/dissect.py "$work/mini-large" --images $many \
      --repeat 1 "${batches[@]}" "${kinds[@]}" "${caches[@]}" \
      --device "$device" --json "$out/dissect-large.json"
}

second() {
  local classes=$work/classes.h5 name arm seed source seeds=(0 1 2) precision
  local teacher=$out/table1/teachers/resnet56-seed0 prior=$work/resnet56.h5 fit=(--steps-per-epoch 200)
  local sources=(.gpu/first/cifar100-1.tar.gz .gpu/second/cifar100-2.tar.gz) missing=()
  lacks_device table1 && return
  mkdir -p "$out/table1/teachers" "$out/table1/resnet56-resnet20"
  if [ -n "$small" ]; then
    seeds=(0) fit=(--epochs 1 --steps-per-epoch 2)
    timed classes 60 "${dissect_embed[@]}" shapes --images-per-class 2 \
      --test-images-per-class 1 --output "$classes"
  else
    for source in "${sources[@]}"; do [ -f "$source" ] || missing+=("$source"); done
    if ((${#missing[@]})); then
      echo "classes: left out, ${missing[*]} missing (benchmarks/pack_gpu.sh makes it)"
    else
      timed classes 90 "${dissect_embed[@]}" classes --name cifar100 --output "$classes" \
        "${sources[@]/#/--source=}"
    fi
  fi
  if [ ! -f "$classes" ]; then
    echo "table1: left out, no images to train on"
    return
  fi
  if [ -z "$small" ]; then
    part training 60 "$python" benchmarks/training.py resnet20 resnet56 --rounds 30 --repeat 1 \
      --device "$device" --json "$out/training.json"
  fi
  # Most of the steps of Table 1 are the students'.
  part plan 30 "$python" benchmarks/gpu_report.py plan "$out" --left $((deadline - SECONDS)) \
    --seeds ${#seeds[@]} ${EPOCHS:+--epochs "$EPOCHS"} ${small:+--epochs 1} || return
  read -r EPOCHS precision < <("$python" -c 'import json, sys
row = json.load(open(sys.argv[1]))["rows"]["plan"]; print(row["epochs"], row["precision"])' \
    "$out/plan.json")
  local train=("${dissect_embed[@]}" distil "$classes" --epochs "$EPOCHS" --device "$device"
    --precision "$precision" --checkpoint-every 20)
  part table1/teachers/resnet56-seed0 999 "${train[@]}" --student resnet56 --role teacher \
    --output "$teacher.json"
  if [ ! -f "$teacher.pt" ]; then
    echo "students: left out, their teacher has not come to its end; another call goes on"
    return
  fi
  timed prior 60 "${dissect_embed[@]}" prior "$classes" --teacher "$teacher.pt" \
    --output "$prior" --device "$device" "${fit[@]}"
  for seed in "${seeds[@]}"; do
    for arm in plain skd skd-uniform; do
      local options=(--method "${arm%%-*}" --prior "$prior")
      [ "$arm" = plain ] || options+=(--beta 0.5)
      [ "$arm" = skd-uniform ] && options+=(--control uniform)
      while (($(jobs -pr | wc -l) >= ${JOBS:-3})); do wait -n; done
      name=table1/resnet56-resnet20/$arm-seed$seed
      part "$name" 999 "${train[@]}" --student resnet20 --seed "$seed" "${options[@]}" \
        --output "$out/$name.json" &
    done
  done
  wait
  timed table1 30 "${dissect_embed[@]}" table1 "$out/table1" "$classes" -o "$out/table1/table1.csv"
}

$call
"$python" benchmarks/gpu_report.py table "$out"
