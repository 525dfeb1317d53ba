//! What control groups leave to a process: containers, systemd's slices, batch systems.
//!
//! A group's limit holds for all groups below it, so the tightest on the way up counts. What files keep in memory (the page cache of
//! photos that were read) is in a group's usage, but is given up when memory is asked for: it counts as free.
//! References: the kernel's `cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::path::{Component, Path};

/// How a version of control groups names what it says.
struct Version {
    /// The folder of its memory groups, below where groups are mounted.
    folder: &'static str,
    limits: &'static [&'static str],
    usage: &'static str,
    /// Of `memory.stat`: the page cache, that of groups below with it.
    cache: [&'static str; 2],
}

const V2: Version = Version {
    folder: "",
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    cache: ["inactive_file", "active_file"],
};
const V1: Version = Version {
    folder: "memory",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

/// The bytes that the groups of `/proc/self/cgroup` leave, of the groups mounted at `mount`; none if no limit is set.
pub fn left(mount: &Path, own: &str) -> Option<u64> {
    let groups = own.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" => Some((&V2, path)),
            _ if controllers.split(',').any(|name| name == "memory") => Some((&V1, path)),
            _ => None,
        }
    });
    groups.filter_map(|(version, path)| version.left(mount, path)).min()
}

impl Version {
    /// The least that the group at `path` and those above leave. A container may see its own group as the root, and be told a path
    /// that is not there: then the root is what there is.
    fn left(&self, mount: &Path, path: &str) -> Option<u64> {
        let root = mount.join(self.folder);
        let outside = Path::new(path).components().any(|part| part == Component::ParentDir);
        let below = Path::new(path).components().filter(|part| !outside && matches!(part, Component::Normal(_)));
        let below: Vec<_> = below.collect();
        let groups = (0..=below.len()).map(|depth| root.join(below[..depth].iter().collect::<std::path::PathBuf>()));
        groups.filter_map(|group| self.left_by(&group)).min()
    }

    /// What one group leaves.
    fn left_by(&self, group: &Path) -> Option<u64> {
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let limit = self.limits.iter().filter_map(|name| number(name)).min()?;
        let stat = read("memory.stat").unwrap_or_default();
        let of = |name: &str| {
            stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
        };
        let cache: u64 = self.cache.iter().filter_map(|name| of(name)).sum();
        Some(limit.saturating_sub(number(self.usage).unwrap_or_default().saturating_sub(cache)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups, each with its files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = mount.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        mount
    }

    #[test]
    fn page_cache_is_not_used_memory() {
        let stat = "anon 100\ninactive_file 600\nactive_file 50\nfile 700\nslab 3\n";
        let mount = tree(&[("memory.max", "1000\n"), ("memory.current", "900\n"), ("memory.stat", stat)]);
        assert_eq!(left(mount.path(), "0::/\n"), Some(1000 - (900 - 650)));
        // Numbers that were read at two moments may not fit each other.
        std::fs::write(mount.path().join("memory.current"), "600").unwrap();
        assert_eq!(left(mount.path(), "0::/\n"), Some(1000));
    }

    #[test]
    fn the_tightest_group_on_the_way_up_holds() {
        let files = [
            ("a/memory.max", "5000"),
            ("a/memory.current", "4000"),
            ("a/memory.stat", "inactive_file 0\nactive_file 500\n"),
            ("a/b/memory.max", "max"),
            ("a/b/memory.high", "3000"),
            ("a/b/memory.current", "200"),
            ("a/b/c/memory.max", "max\n"),
            ("other/memory.max", "1"),
        ];
        let mount = tree(&files);
        assert_eq!(left(mount.path(), "0::/a/b/c\n"), Some(1500));
        std::fs::write(mount.path().join("a/memory.current"), "900").unwrap();
        assert_eq!(left(mount.path(), "0::/a/b/c\n"), Some(2800));
        assert_eq!(left(mount.path(), "0::/nowhere\n"), None);
        assert_eq!(left(mount.path(), "0::/../other"), None);
        assert_eq!(left(mount.path(), "1:cpu:/a"), None);
        assert_eq!(left(mount.path(), ""), None);
    }

    #[test]
    fn the_first_version_is_read_too() {
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/memory.usage_in_bytes", "5"),
            ("memory/job/memory.limit_in_bytes", "1000\n"),
            ("memory/job/memory.usage_in_bytes", "800\n"),
            ("memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 300\ntotal_active_file 100\n"),
        ];
        let mount = tree(&files);
        assert_eq!(left(mount.path(), "12:cpu,cpuacct:/x\n9:memory:/job/step\n0::/init\n"), Some(600));
        // In a container, the path is the host's and the root its own.
        assert_eq!(left(mount.path(), "9:rdma,memory:/docker/0a1b\n"), Some(9223372036854771712 - 5));
    }
}
