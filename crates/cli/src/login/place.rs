//! Whether there is a browser where this program runs that its user sits in front of.

use std::path::Path;

use crate::profile::identity::Way;

/// What tells of it.
pub(super) struct Place<'a> {
    /// The environment.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The file system.
    pub(super) exists: &'a dyn Fn(&str) -> bool,
    /// Whether the system shows windows without a display being named.
    pub(super) always_shows: bool,
}

/// Where this program runs.
pub(super) fn here() -> Way {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let exists = |path: &str| Path::new(path).exists();
    Place { variable: &variable, exists: &exists, always_shows: cfg!(target_os = "macos") }.way()
}

impl Place<'_> {
    fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| (self.variable)(name).is_some())
    }

    /// The browser, unless it would open where nobody sees it.
    pub(super) fn way(&self) -> Way {
        // Before all else: a browser over there may well start, in text, and look as if this program hung.
        if self.any(&["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"]) {
            return Way::Device;
        }
        if self.any(&["BROWSER"]) {
            return Way::Browser;
        }
        let contained = self.any(&["container", "KUBERNETES_SERVICE_HOST", "CODESPACES", "REMOTE_CONTAINERS"])
            || ["/.dockerenv", "/run/.containerenv"].iter().any(|path| (self.exists)(path));
        let shown = self.always_shows || self.any(&["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"]);
        if shown && !contained { Way::Browser } else { Way::Device }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_opened_only_where_its_user_sits() {
        for (variables, files, always_shows, way) in [
            (&["DISPLAY"][..], &[][..], false, Way::Browser),
            (&["WAYLAND_DISPLAY"], &[], false, Way::Browser),
            (&["WSL_DISTRO_NAME"], &[], false, Way::Browser),
            (&[], &[], true, Way::Browser),
            (&["BROWSER"], &["/.dockerenv"], false, Way::Browser),
            (&[], &[], false, Way::Device),
            (&["DISPLAY", "BROWSER", "SSH_CONNECTION"], &[], true, Way::Device),
            (&["DISPLAY", "SSH_TTY"], &[], false, Way::Device),
            (&["DISPLAY"], &["/.dockerenv"], false, Way::Device),
            (&["DISPLAY", "KUBERNETES_SERVICE_HOST"], &[], false, Way::Device),
        ] {
            let variable = |name: &str| variables.contains(&name).then(|| "1".to_owned());
            let exists = |path: &str| files.contains(&path);
            let place = Place { variable: &variable, exists: &exists, always_shows };
            assert_eq!(place.way(), way, "{variables:?} {files:?} {always_shows}");
        }
    }
}
