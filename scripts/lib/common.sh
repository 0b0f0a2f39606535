# Shared by scripts/corpus, scripts/profile and scripts/workload. Sourced, not run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${POSTLINK_CACHE:-$root/.cache}
corpus=$cache/corpus
sources=$cache/sources
inputs=$root/testdata/corpus
llvm=/usr/lib/llvm-19

# In the order in which they are built: cheap and often used first.
programs=(clang python python-pie sqlite lua lua-pie cxx libpython zstd perl clang-pie ripgrep)

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# The file that postlink and other rewriters are to be given.
program_path() {
  case $1 in
    libpython) echo "$corpus/libpython/libpython3.11.so.1.0" ;;
    *) echo "$corpus/$1/$1" ;;
  esac
}

is_program() {
  local known
  for known in "${programs[@]}"; do
    [ "$known" = "$1" ] && return 0
  done
  return 1
}
