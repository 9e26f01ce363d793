//! Reading and writing whole files, with faults as diagnostics.

use crate::ir::Diagnostic;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

/// The most bytes that are read from one file.
const LIMIT: u64 = 1 << 36;

/// The bytes of a regular file.
///
/// # Errors
/// Where it does not exist, is not a regular file, or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let file = open(path)?;
    let len = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len as usize).map_err(|_| too_large(path, len))?;
    file.take(LIMIT).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

/// A regular file, to be read.
///
/// # Errors
/// Where it does not exist, is not a regular file, is larger than any that is read, or cannot be opened.
pub fn open(path: &Path) -> Result<fs::File, Diagnostic> {
    // Asked for first: to open a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "a device or a pipe" };
        return Err(Diagnostic::new(format!("`{}` cannot be read", path.display())).expected("a file").found(found));
    }
    if metadata.len() > LIMIT {
        return Err(too_large(path, metadata.len()));
    }
    fs::File::open(path).map_err(|error| unreadable(path, &error))
}

/// The text of a file, without a byte order mark.
///
/// # Errors
/// Where it cannot be read or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Diagnostic> {
    let mut bytes = read(path)?;
    // The mark that some editors begin UTF-8 with.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Diagnostic::new(format!("`{}` is not a text", path.display()))
            .expected("UTF-8")
            .found(format!("another byte at offset {at}"))
    })
}

/// Writes a file that appears whole or not at all: `fill` writes to a temporary file beside it, which then takes the
/// name.
///
/// # Errors
/// Where the folder or the file cannot be written.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Diagnostic> {
    // Its bytes are to be there before its name is.
    write_then(path, fill, fs::File::sync_data)
}

/// As [`write()`], for files whose bytes are checked when they are read: where power fails soon afterwards, the name may be
/// there without its bytes.
///
/// # Errors
/// As [`write()`].
pub fn write_unsynced(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Diagnostic> {
    write_then(path, fill, |_| Ok(()))
}

fn write_then(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    finish: impl FnOnce(&fs::File) -> io::Result<()>,
) -> Result<(), Diagnostic> {
    replaceable(path)?;
    let attempt = || -> io::Result<()> {
        // Behind a link: the link stays one.
        let real = path.canonicalize();
        let path = real.as_deref().unwrap_or(path);
        let temporary = temporary(path)?;
        if let Ok(old) = fs::metadata(path) {
            // Whoever may read the old file, and nobody else; some file systems know of no such thing.
            let _ = temporary.as_file().set_permissions(old.permissions());
        }
        let mut writer = io::BufWriter::new(temporary.as_file());
        fill(&mut writer)?;
        writer.flush()?;
        drop(writer);
        finish(temporary.as_file())?;
        temporary.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    attempt().map_err(|error| unwritable(path, &error))
}

/// Whether a file can be written by [`write()`], as far as that is known before: long work should not be lost by a name.
///
/// # Errors
/// Where there is no such folder, or something else than a file has the name.
pub fn check_writable(path: &Path) -> Result<(), Diagnostic> {
    replaceable(path)?;
    let real = path.canonicalize();
    temporary(real.as_deref().unwrap_or(path)).map(drop).map_err(|error| unwritable(path, &error))
}

/// Whether files that are to be written take the place of no other: of none that is `read`, and of none that is written, too.
///
/// # Errors
/// The first that does.
pub fn check_apart<'p>(
    written: impl IntoIterator<Item = &'p PathBuf>,
    read: impl IntoIterator<Item = &'p PathBuf>,
) -> Result<(), Diagnostic> {
    let read: Vec<PathBuf> = read.into_iter().filter_map(|path| place(path)).collect();
    let mut known: Vec<PathBuf> = Vec::new();
    for path in written {
        // Folders that are not there are told of when the file is written.
        let Some(own) = place(path) else { continue };
        let fault = |what: &str| Diagnostic::new(format!("`{}` would be lost: {what}", path.display()));
        if read.contains(&own) {
            return Err(fault("it is read here").expected("another name for the file that is written"));
        }
        if known.contains(&own) {
            return Err(fault("it is written twice").expected("another name for each file that is written"));
        }
        known.push(own);
    }
    Ok(())
}

/// What two paths of one file have in common: where its folder really is, and its name there.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    path.canonicalize().ok().or_else(|| Some(folder.canonicalize().ok()?.join(path.file_name()?)))
}

/// A file beside `path` that is to take its name.
fn temporary(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fusewright-");
    // The library's temporary files are private; this one becomes the user's, who has a umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// A folder or a device must not be replaced by a file, nor a file that its owner has made read-only.
fn replaceable(path: &Path) -> Result<(), Diagnostic> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let found = if metadata.is_dir() { "a folder" } else { "a device or a pipe" };
            Err(Diagnostic::new(format!("`{}` cannot be written", path.display())).expected("a file").found(found))
        }
        Ok(metadata) if metadata.permissions().readonly() => {
            let fault = Diagnostic::new(format!("`{}` cannot be written", path.display()));
            Err(fault.expected("a file that may be written").found("a read-only one"))
        }
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(format!("`{}` cannot be written", path.display())).found(reason(error))
}

/// The path of a file that a model names: `relative` to `folder`, and inside it when all links are followed.
///
/// # Errors
/// Where the path is absolute, leaves the folder, or does not exist.
pub fn inside(folder: &Path, relative: &str) -> Result<PathBuf, Diagnostic> {
    let refuse = |found: String| {
        Diagnostic::new(format!("`{relative}` is outside the model's folder"))
            .expected("a path relative to the model's folder, and inside it")
            .found(found)
            .help("move the file beside the model, or name it on the command line")
    };
    let path = Path::new(relative);
    if path.is_absolute() {
        return Err(refuse("an absolute path".into()));
    }
    if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(refuse("`..` in the path".into()));
    }
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let root = here.canonicalize().map_err(|error| unreadable(here, &error))?;
    let joined = folder.join(path);
    let real = joined.canonicalize().map_err(|error| unreadable(&joined, &error))?;
    match real.starts_with(&root) {
        true => Ok(joined),
        false => Err(refuse(format!("a link to `{}`", real.display()))),
    }
}

/// What the system says about a file.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(format!("`{}` cannot be read", path.display())).found(reason(error))
}

/// What the system says, without its error number.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_string(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "a file".to_string(),
        io::ErrorKind::PermissionDenied => "no permission".to_string(),
        _ => error.to_string(),
    }
}

fn too_large(path: &Path, bytes: u64) -> Diagnostic {
    Diagnostic::new(format!("`{}` is too large to be read", path.display()))
        .expected("a file that fits in memory")
        .found(format!("{bytes} bytes"))
}

/// A cursor over bytes that says what is missing.
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { rest: bytes }
    }

    /// The next `n` bytes, if there are so many.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// The number of elements of a shape and the bytes they take; `None` where they overflow.
pub(crate) fn size(dims: &[usize], element_bytes: usize) -> Option<(usize, usize)> {
    // A length of zero must not hide an overflow of the others.
    let nonzero = dims.iter().filter(|&&n| n != 0).try_fold(1usize, |product, &n| product.checked_mul(n))?;
    nonzero.checked_mul(element_bytes)?;
    let elements = if dims.contains(&0) { 0 } else { nonzero };
    Some((elements, elements * element_bytes))
}

/// Numbers of `N` bytes each, by `read`.
pub(crate) fn numbers<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (whole, _) = bytes.as_chunks::<N>();
    whole.iter().map(|&chunk| read(chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        fs::create_dir_all(model.join("sub")).unwrap();
        fs::write(model.join("sub/w"), b"w").unwrap();
        fs::write(folder.path().join("secret"), b"s").unwrap();
        assert_eq!(inside(&model, "sub/w").unwrap(), model.join("sub/w"));
        assert!(inside(&model, "../secret").unwrap_err().found.unwrap().contains(".."));
        assert!(inside(&model, "/etc/passwd").unwrap_err().found.unwrap().contains("absolute"));
        assert_eq!(inside(&model, "none").unwrap_err().found.unwrap(), "no such file or folder");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("secret"), model.join("link")).unwrap();
            std::os::unix::fs::symlink(model.join("sub"), model.join("inner")).unwrap();
            assert!(inside(&model, "link").unwrap_err().found.unwrap().contains("link to"));
            assert_eq!(inside(&model, "inner/w").unwrap(), model.join("inner/w"));
        }
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap_err().found.unwrap(), "a folder");
        #[cfg(unix)]
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().found.unwrap(), "a device or a pipe");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(failed.unwrap_err().found.unwrap(), "full");
        assert_eq!(read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    #[cfg(unix)]
    fn links_stay_links() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("f"), folder.path().join("link"));
        fs::write(&path, b"old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, |out| out.write_all(b"new")).unwrap();
        assert_eq!((read(&path).unwrap(), fs::read_link(&link).unwrap()), (b"new".to_vec(), path));
    }

    #[test]
    #[cfg(unix)]
    fn permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!((read(&path).unwrap(), mode()), (b"new".to_vec(), 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert_eq!(check_writable(&path).unwrap_err().found.as_deref(), Some("a read-only one"));
        assert!(write(&path, |out| out.write_all(b"newer")).is_err());
        assert_eq!((read(&path).unwrap(), mode()), (b"new".to_vec(), 0o444));
    }

    #[test]
    fn nothing_is_written_over_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        let again = folder.path().join("./a");
        fs::write(&a, b"a").unwrap();
        assert!(check_apart([&b, &c], [&a]).is_ok());
        assert!(check_apart([&b, &again], [&a]).unwrap_err().title.contains("it is read here"));
        assert!(check_apart([&b, &c, &folder.path().join("./b")], []).unwrap_err().title.contains("written twice"));
        let absent = folder.path().join("none/x");
        assert!(check_apart([&absent, &absent], [&absent]).is_ok());
    }

    #[test]
    fn texts_have_no_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, "\u{feff}a").unwrap();
        assert_eq!(read_text(&path).unwrap(), "a");
    }

    #[test]
    fn sizes_do_not_overflow() {
        assert_eq!(size(&[2, 3], 4), Some((6, 24)));
        assert_eq!(size(&[], 4), Some((1, 4)));
        assert_eq!(size(&[0, 5], 4), Some((0, 0)));
        assert_eq!(size(&[0, usize::MAX, 2], 4), None);
        assert_eq!(size(&[usize::MAX], 4), None);
    }
}
