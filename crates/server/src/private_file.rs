//! Files with secrets in them: for their owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a file that nobody else can read at any instant, and replaces the one of this name whole or not at all.
///
/// No link is followed: one that stands in its place is replaced, not what it points to.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // What a crash may have left there, and what somebody may have put there, must not be opened.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is the one to tell.
        drop(fs::remove_file(&new));
    }
    written?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_private_and_takes_the_place_of_a_link_not_of_its_target() {
        let directory = std::env::temp_dir().join(format!("keyward-private-file-{}", std::process::id()));
        drop(fs::remove_dir_all(&directory));
        fs::create_dir(&directory).unwrap();
        let (target, path) = (directory.join("target"), directory.join("secret"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &path).unwrap();
        symlink(&target, directory.join("secret.new")).unwrap();
        for content in ["one", "two"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert!(metadata.is_file());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nothing is left beside it");
        assert!(replace(Path::new("/"), b"").is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
