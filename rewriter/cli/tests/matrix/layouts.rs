//! The layouts each program is rewritten in, and the tools that can do it.
use crate::process::Line;
use std::fmt;
use std::path::Path;

/// How blocks and functions are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Keep,
    Reverse,
    Random1,
    Random2,
    SplitAll,
    Profile,
}

/// An order in one of the two modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) order: Order,
    pub(crate) hot: bool,
}

pub(crate) const ORDERS: [Order; 6] =
    [Order::Keep, Order::Reverse, Order::Random1, Order::Random2, Order::SplitAll, Order::Profile];

/// All layouts.
pub(crate) fn all() -> impl Iterator<Item = Layout> {
    [false, true].into_iter().flat_map(|hot| ORDERS.into_iter().map(move |order| Layout { order, hot }))
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Keep => "keep",
            Order::Reverse => "reverse",
            Order::Random1 => "random1",
            Order::Random2 => "random2",
            Order::SplitAll => "split",
            Order::Profile => "profile",
        };
        write!(f, "{order}.{}", if self.hot { "hot" } else { "full" })
    }
}

/// The program under test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Tool {
    Postlink(String),
    Identity,
    Bolt,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postlink(path) => f.write_str(path),
            Self::Identity => f.write_str("identity"),
            Self::Bolt => f.write_str("llvm-bolt"),
        }
    }
}

/// One file to rewrite.
pub(crate) struct Request<'a> {
    pub(crate) layout: Layout,
    pub(crate) old: &'a Path,
    pub(crate) new: &'a Path,
    pub(crate) profile: &'a Path,
    pub(crate) threads: u32,
}

impl Tool {
    pub(crate) fn from_environment(default: &str) -> Self {
        match std::env::var("POSTLINK_MATRIX_TOOL").as_deref() {
            Ok("identity") => Self::Identity,
            Ok("bolt") => Self::Bolt,
            Ok(path) if !path.is_empty() => Self::Postlink(path.to_owned()),
            _ => Self::Postlink(default.to_owned()),
        }
    }

    /// The command that does `request`; clang's folder holds llvm-bolt.
    pub(crate) fn line(&self, llvm: &Path, folder: &Path, request: &Request<'_>) -> Line {
        let Request { layout, threads, .. } = *request;
        let (old, new) = (request.old.to_string_lossy(), request.new.to_string_lossy());
        let profile = request.profile.to_string_lossy();
        let mut line = match self {
            Self::Postlink(path) => {
                Line::new(folder, [path.as_str(), "optimize", &old, "-o", &new, "--threads", &threads.to_string()])
            }
            Self::Identity => return Line::new(folder, ["cp", &old, &new]),
            Self::Bolt => Line::new(folder, [llvm.join("llvm-bolt").to_string_lossy().as_ref(), &old, "-o", &new]),
        };
        let words: Vec<&str> = match self {
            Self::Bolt => bolt_words(layout),
            _ => postlink_words(layout),
        };
        line.words.extend(words.iter().map(|&word| word.to_owned()));
        // Counts also decide which way out of a branch is a jump of its own: one random order has them as well.
        if matches!(layout.order, Order::Profile | Order::Random2) {
            let option = if *self == Self::Bolt { "-data" } else { "--profile" };
            line.words.extend([option.to_owned(), profile.into_owned()]);
        }
        line
    }
}

fn postlink_words(layout: Layout) -> Vec<&'static str> {
    let mut words = vec!["--mode", if layout.hot { "hot" } else { "full" }];
    words.extend(match layout.order {
        Order::Keep => &["--block-order", "keep", "--function-order", "keep", "--split", "none"][..],
        Order::Reverse => &["--block-order", "reverse", "--function-order", "reverse", "--split", "none"],
        Order::Random1 => {
            &["--block-order", "random", "--function-order", "random", "--split", "random", "--seed", "1"]
        }
        Order::Random2 => {
            &["--block-order", "random", "--function-order", "random", "--split", "random", "--seed", "2"]
        }
        Order::SplitAll => &["--split", "all"],
        Order::Profile => &[],
    });
    if layout.hot && layout.order != Order::Profile {
        // No profile: every function counts as having samples, or nothing would move.
        words.push("--hot-all");
    }
    words
}

fn bolt_words(layout: Layout) -> Vec<&'static str> {
    let mut words = vec![if layout.hot { "-lite=1" } else { "-lite=0" }];
    words.extend(match layout.order {
        Order::Keep => &["-reorder-blocks=none"][..],
        Order::Reverse => &["-reorder-blocks=reverse", "-reorder-functions=random"],
        Order::Random1 => &[
            "-reorder-blocks=cluster-shuffle",
            "-reorder-functions=random",
            "-split-functions",
            "-split-strategy=random2",
            "-bolt-seed=1",
            "-split-eh",
        ],
        Order::Random2 => &[
            "-reorder-blocks=cluster-shuffle",
            "-reorder-functions=random",
            "-split-functions",
            "-split-strategy=randomN",
            "-bolt-seed=2",
            "-split-eh",
        ],
        Order::SplitAll => &["-split-functions", "-split-strategy=all", "-split-eh"],
        Order::Profile => &[
            "-reorder-blocks=ext-tsp",
            "-reorder-functions=cdsort",
            "-split-functions",
            "-split-all-cold",
            "-split-eh",
        ],
    });
    words
}
