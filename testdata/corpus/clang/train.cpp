// Training input of the compiler: a handful of standard headers and code of moderate size.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>

struct Node {
  std::string name;
  std::vector<std::unique_ptr<Node>> children;
};

static int depth(const Node &node) {
  int deepest = 0;
  for (const auto &child : node.children) deepest = std::max(deepest, depth(*child));
  return deepest + 1;
}

int main(int argc, char **argv) {
  std::map<std::string, std::vector<int>> places;
  for (int i = 0; i < argc; i++) places[argv[i]].push_back(i);
  std::regex pattern("a.*b|c[0-9]+");
  for (const auto &[text, where] : places) std::cout << text << std::regex_match(text, pattern) << where.size() << '\n';
  std::unordered_map<int, std::function<int(int)>> functions;
  functions[0] = [argc](int x) { return x * argc; };
  functions[1] = [&places](int x) { return x + static_cast<int>(places.size()); };
  Node root{"root", {}};
  for (int i = 0; i < argc; i++) root.children.push_back(std::make_unique<Node>());
  return functions[argc % 2](depth(root));
}
