//! How much memory the system has for this process.

/// Returns the memory of the system, or less if a control group of the process has a lower limit, in
/// bytes. Where the system does not say, returns `u64::MAX`. Reads some small files of the system,
/// which takes some tens of microseconds.
pub(crate) fn memory_bytes() -> u64 {
    system_bytes().min(group_bytes())
}

#[cfg(not(target_os = "linux"))]
fn system_bytes() -> u64 {
    u64::MAX
}

#[cfg(not(target_os = "linux"))]
fn group_bytes() -> u64 {
    u64::MAX
}

#[cfg(target_os = "linux")]
fn system_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kibibytes.map_or(u64::MAX, |kibibytes: u64| kibibytes.saturating_mul(1024))
}

/// The lowest limit of the groups that the process is in, and of those above them.
#[cfg(target_os = "linux")]
fn group_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = text.lines().filter_map(limit_file).flatten();
    let limits = files.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.min().unwrap_or(u64::MAX)
}

/// The files with the limits of a group and of those above it. `None` if the group has nothing to do
/// with memory. A line is `NUMBER:CONTROLLERS:PATH`, in version 2 of control groups without
/// controllers.
#[cfg(target_os = "linux")]
fn limit_file(line: &str) -> Option<impl Iterator<Item = std::path::PathBuf> + use<>> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let (root, name) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    let path = std::path::Path::new(path);
    let groups: Vec<_> = path.ancestors().map(std::path::Path::to_owned).collect();
    Some(groups.into_iter().map(move |group| {
        let group = group.strip_prefix("/").unwrap_or(&group);
        std::path::Path::new(root).join(group).join(name)
    }))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_have_limits() {
        let files = |line| {
            limit_file(line).map(|files| {
                files
                    .map(|file| file.to_str().unwrap().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            files("0::/user/app").unwrap(),
            [
                "/sys/fs/cgroup/user/app/memory.max",
                "/sys/fs/cgroup/user/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("4:cpu,memory:/a:b").unwrap(),
            [
                "/sys/fs/cgroup/memory/a:b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        for line in ["3:cpu:/", "", "memory", "1:memory"] {
            assert_eq!(files(line), None, "{line}");
        }
        assert!(memory_bytes() > 1 << 20);
    }
}
