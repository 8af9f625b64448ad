#!/bin/sh
# Search the model of the page by spin, and show that it catches each rule that is reversed.
# Takes "small" (default; under 1 GB and a minute) or "whole" (20 GB).
set -eu
model=$(cd "$(dirname "$0")" && pwd)/page.pml
for tool in spin gcc; do
    command -v $tool >/dev/null || { echo "$tool is missing (Debian: $tool)" >&2; exit 1; }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
memory_mb=1900
[ "${1:-small}" = small ] || memory_mb=20000

# Takes the number of errors to be found, and the definitions.
search() {
    expected=$1
    shift
    spin "$@" -a "$model" >spin.log || { cat spin.log; exit 1; }
    gcc -O2 -w -DSAFETY -DHC4 -DMEMLIM=$memory_mb -o pan pan.c
    ./pan -n -m200000 -w24 >out || true
    grep -q "errors: $expected" out && ! grep -Eq "max search depth too small|not completed: out" out || {
        cat out
        echo "page.pml with $*: expected $expected errors" >&2
        exit 1
    }
    echo "page.pml with $*: $expected errors, as expected;$(sed -n 's/ states, stored.*/ states/p' out)"
}

host="-DW=0 -DND=0 -DR1=2 -DR2=1"
search 0 -DR1=1 -DR2=2 -DR3=0
search 0 $host -DR3=1 -DELSEWHERE=1
search 0 $host -DR3=0 -DELSEWHERE=2
search 1 -DR1=1 -DR2=2 -DR3=0 -DNOLOCK
search 1 -DR1=1 -DR2=2 -DR3=0 -DGRANTOPEN
search 1 $host -DR3=1 -DELSEWHERE=1 -DSEQLAST
search 1 $host -DR3=0 -DELSEWHERE=2 -DOWNSEQ
[ "${1:-small}" = small ] || search 0 -DR1=1 -DR2=1 -DR3=2
