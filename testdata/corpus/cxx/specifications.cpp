// Dynamic exception specifications, which C++17 removed: built as C++14. They are the only source of filters (negative
// type-table indexes) in the language-specific data of a function.
#include "check.h"

#include <exception>
#include <stdexcept>

namespace {

struct Allowed {
  int value;
};

__attribute__((noinline)) void raise(unsigned kind) {
  if (kind == 0) throw Allowed{1};
  if (kind == 1) throw 12;
  if (kind == 2) throw std::length_error("length");
  if (kind == 3) throw 'c';
}

// Other types than these two go to the unexpected handler.
__attribute__((noinline)) int two_types(unsigned kind) throw(Allowed, std::logic_error) {
  Guard guard("two");
  raise(kind);
  return 5;
}

// Everything but std::bad_exception is replaced by it, as the handler throws nothing that is allowed.
__attribute__((noinline)) int bad_only(unsigned kind) throw(std::bad_exception) {
  Guard guard("bad");
  raise(kind);
  return 6;
}

bool throw_allowed = true;

[[noreturn]] void on_unexpected() {
  trace.push_back("unexpected");
  if (throw_allowed) throw Allowed{77};
  throw 3.5f;
}

__attribute__((noinline)) int outcome(int (*function)(unsigned), unsigned kind) {
  try {
    return function(kind);
  } catch (const Allowed &allowed) {
    return 100 + allowed.value;
  } catch (const std::logic_error &) {
    return 300;
  } catch (const std::bad_exception &) {
    return 400;
  } catch (...) {
    return 500;
  }
}

}  // namespace

std::uint64_t specifications_part(Random &random, int rounds) {
  const auto previous = std::set_unexpected(on_unexpected);
  CHECK(outcome(two_types, 9) == 5 && take_trace() == "+two -two");
  CHECK(outcome(two_types, 0) == 101 && take_trace() == "+two -two");
  CHECK(outcome(two_types, 2) == 300 && take_trace() == "+two -two");
  CHECK(outcome(two_types, 1) == 177 && take_trace() == "+two -two unexpected");
  throw_allowed = false;
  CHECK(outcome(bad_only, 1) == 400 && take_trace() == "+bad -bad unexpected");
  throw_allowed = true;
  std::uint64_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    sum = sum * 37 + static_cast<std::uint64_t>(outcome(two_types, random.below(12)));
    sum += take_trace().size();
  }
  std::set_unexpected(previous);
  return sum;
}
