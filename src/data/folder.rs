//! Pictures in a folder for each class.

use super::files;
use super::picture::Picture;
use crate::ir::Diagnostic;
use std::path::Path;

/// A picture's path relative to the folder of the training file, and the name of its class.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labelled {
    pub path: String,
    pub class: String,
}

/// The pictures of the classes that are the folders in `images`, which is relative to `root` and stays in it; classes
/// and pictures in the order of their names. Names that begin with a dot are passed over.
///
/// # Errors
/// Where a folder cannot be read, there are no classes, or a class has no pictures.
pub(super) fn list(root: &Path, images: &str) -> Result<Vec<Labelled>, Diagnostic> {
    let mut all = Vec::new();
    let classes = names(root, images)?;
    let expected = "a folder for each class, and pictures in it";
    if classes.is_empty() {
        return Err(Diagnostic::new(format!("`{images}` has no examples")).expected(expected).found("an empty folder"));
    }
    for class in classes {
        let folder = format!("{images}/{class}");
        if !files::inside(root, &folder)?.is_dir() {
            let fault = Diagnostic::new(format!("`{folder}` is not a folder of pictures"));
            return Err(fault.expected(expected).found("a file").help("move it into the folder of its class"));
        }
        let pictures = names(root, &folder)?;
        if pictures.is_empty() {
            let fault = Diagnostic::new(format!("`{folder}` has no pictures"));
            return Err(fault.expected(expected).found("an empty folder"));
        }
        all.extend(pictures.iter().map(|name| Labelled { path: format!("{folder}/{name}"), class: class.clone() }));
    }
    Ok(all)
}

/// The names in a folder, in order.
fn names(root: &Path, folder: &str) -> Result<Vec<String>, Diagnostic> {
    let path = files::inside(root, folder)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(|error| files::unreadable(&path, &error))? {
        let name = entry.map_err(|error| files::unreadable(&path, &error))?.file_name();
        match name.to_str() {
            Some(name) if name.starts_with('.') => {}
            Some(name) => names.push(name.to_string()),
            None => {
                let fault = Diagnostic::new(format!("`{folder}` has a file whose name is not a text"));
                return Err(fault.expected("names in UTF-8").found(name.display().to_string()));
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The pixels of pictures, each as the input `[channels, height, width]` of bytes.
///
/// # Errors
/// Where a picture cannot be read, or all of them do not fit in memory.
pub(super) fn pixels(
    root: &Path,
    pictures: &[Labelled],
    resize: Option<u32>,
    [channels, height, width]: [usize; 3],
) -> Result<Vec<u8>, Diagnostic> {
    let bytes = files::size(&[pictures.len(), channels, height, width], 1).map(|(_, bytes)| bytes);
    let mut all: Vec<u8> = Vec::new();
    if bytes.is_none_or(|bytes| all.try_reserve_exact(bytes).is_err()) {
        return Err(Diagnostic::new("the pictures do not fit in memory")
            .found(format!("{} of {channels}x{height}x{width} bytes", pictures.len())));
    }
    for picture in pictures {
        let picture = Picture::read(&files::inside(root, &picture.path)?)?;
        all.extend(picture.planes(resize, channels, height, width)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"P5 2 2 255 \x01\x02\x03\x04").unwrap();
        }
        folder
    }

    #[test]
    fn pictures_come_class_by_class() {
        let folder = folder(&["p/dog/b.pgm", "p/dog/a.pgm", "p/cat/z.pgm", "p/cat/.hidden", "p/.thumbs/x"]);
        let all = list(folder.path(), "p").unwrap();
        let told: Vec<(&str, &str)> = all.iter().map(|one| (one.path.as_str(), one.class.as_str())).collect();
        assert_eq!(told, [("p/cat/z.pgm", "cat"), ("p/dog/a.pgm", "dog"), ("p/dog/b.pgm", "dog")]);
        let bytes = pixels(folder.path(), &all, None, [1, 2, 2]).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4].repeat(3));
        assert_eq!(pixels(folder.path(), &all[..1], None, [3, 1, 2]).unwrap().len(), 6);
    }

    #[test]
    fn odd_folders_are_refused() {
        let odd = folder(&["p/readme.txt", "q/cat/nested/a.pgm"]);
        std::fs::create_dir_all(odd.path().join("empty/cat")).unwrap();
        std::fs::create_dir_all(odd.path().join("none")).unwrap();
        assert!(list(odd.path(), "p").unwrap_err().title.contains("not a folder of pictures"));
        assert!(list(odd.path(), "empty").unwrap_err().title.contains("`empty/cat` has no pictures"));
        assert!(list(odd.path(), "none").unwrap_err().title.contains("has no examples"));
        assert!(list(odd.path(), "absent").unwrap_err().found.unwrap().contains("no such file"));
        let nested = list(odd.path(), "q").unwrap();
        assert_eq!(pixels(odd.path(), &nested, None, [1, 2, 2]).unwrap_err().found.as_deref(), Some("a folder"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/", odd.path().join("q/dog")).unwrap();
            assert!(list(odd.path(), "q").unwrap_err().title.contains("outside"));
        }
    }
}
