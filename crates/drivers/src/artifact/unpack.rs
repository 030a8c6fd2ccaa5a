//! Unpacking archives that nobody vouches for.
//!
//! # Invariants
//!
//! - Every name is split into components, and each directory on the way is checked to be a real one
//!   below the target; an archive that goes through its own links gets nowhere.
//! - A link may be made only if what it names is inside the target, whatever is there.
//! - Files and bytes are counted before they are written, so a small archive of much air ends at
//!   the limit.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::source::Format;
use super::{ArtifactLimits, FILE_MODE, Owner, give_to};

/// An archive cannot or must not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A name leads out.
    #[error("`{0}` leads out of the destination")]
    Escapes(String),
    /// A link leads out.
    #[error("link `{name}` leads out of the destination, to `{target}`")]
    LinkEscapes {
        /// The link.
        name: String,
        /// What it names.
        target: String,
    },
    /// Something that is neither file nor directory nor link.
    #[error("`{0}` is neither a file, a directory nor a link")]
    Special(String),
    /// Too many files.
    #[error("it has more than {0} files")]
    TooManyFiles(u64),
    /// Too many bytes.
    #[error("it has more than {0} bytes")]
    TooManyBytes(u64),
    /// Mode `file` with an archive of several.
    #[error("mode `file` needs an archive with exactly one file")]
    NotOneFile,
    /// It is damaged, or the disk is full.
    #[error("{name}: {error}")]
    Failed {
        /// The entry, or the archive.
        name: String,
        /// What happened.
        #[source]
        error: io::Error,
    },
}

/// Unpacks an archive into a directory, or its only file to a path if `is_file`.
pub(super) fn unpack(
    archive: &Path,
    format: Format,
    into: &Path,
    is_file: bool,
    owner: Option<Owner>,
    limits: &ArtifactLimits,
) -> Result<(), UnpackError> {
    let whole = |error| UnpackError::Failed { name: archive.display().to_string(), error };
    let file = File::open(archive).map_err(whole)?;
    let mut target = Target {
        root: into.to_owned(),
        only_file: is_file.then_some(false),
        owner,
        limits: *limits,
        files: 0,
        bytes: 0,
    };
    if !is_file && !format.is_single_file() {
        fs::create_dir_all(into).map_err(whole)?;
    }
    let buffered = BufReader::new(file);
    match format {
        Format::Zip => unzip(buffered, &mut target)?,
        Format::Tar => untar(buffered, &mut target)?,
        Format::TarGzip => untar(MultiGzDecoder::new(buffered), &mut target)?,
        Format::TarBzip2 => untar(MultiBzDecoder::new(buffered), &mut target)?,
        Format::TarZstd => {
            untar(zstd::Decoder::with_buffer(buffered).map_err(whole)?, &mut target)?;
        }
        Format::Gzip => target.alone(MultiGzDecoder::new(buffered))?,
        Format::Bzip2 => target.alone(MultiBzDecoder::new(buffered))?,
        Format::Zstd => target.alone(zstd::Decoder::with_buffer(buffered).map_err(whole)?)?,
        Format::Xz => {
            let error = io::Error::new(io::ErrorKind::Unsupported, "xz is not supported");
            return Err(whole(error));
        }
    }
    if target.only_file == Some(false) { Err(UnpackError::NotOneFile) } else { Ok(()) }
}

fn untar(reader: impl Read, target: &mut Target) -> Result<(), UnpackError> {
    let mut archive = tar::Archive::new(reader);
    let damaged = |error| UnpackError::Failed { name: "archive".to_owned(), error };
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let link = entry.link_name().map_err(damaged)?.map(std::borrow::Cow::into_owned);
        let link = link.unwrap_or_default();
        let mode = entry.header().mode().unwrap_or(FILE_MODE);
        match entry.header().entry_type() {
            EntryType::Directory => target.dir(&path)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                target.file(&path, mode, &mut entry)?;
            }
            EntryType::Symlink => target.link(&path, &link)?,
            EntryType::Link => target.hard_link(&path, &link)?,
            EntryType::XGlobalHeader => {}
            _ => return Err(UnpackError::Special(path.display().to_string())),
        }
    }
    Ok(())
}

fn unzip(reader: BufReader<File>, target: &mut Target) -> Result<(), UnpackError> {
    let damaged = |error: zip::result::ZipError| UnpackError::Failed {
        name: "archive".to_owned(),
        error: io::Error::other(error),
    };
    let mut archive = zip::ZipArchive::new(reader).map_err(damaged)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let path = PathBuf::from(entry.name().map_err(damaged)?.into_owned());
        let mode = entry.unix_mode().unwrap_or(FILE_MODE);
        if entry.is_dir() {
            target.dir(&path)?;
        } else if entry.is_symlink() {
            let mut text = String::new();
            (&mut entry).take(LINK_BYTES_MAX).read_to_string(&mut text).map_err(failed(&path))?;
            target.link(&path, Path::new(&text))?;
        } else {
            target.file(&path, mode, &mut entry)?;
        }
    }
    Ok(())
}

/// The longest path that the kernel takes, and so the longest link.
const LINK_BYTES_MAX: u64 = 4096;

fn failed(path: &Path) -> impl Fn(io::Error) -> UnpackError {
    let name = path.display().to_string();
    move |error| UnpackError::Failed { name: name.clone(), error }
}

/// Where an archive goes.
struct Target {
    root: PathBuf,
    /// Set if the root is to be a file: whether it was written.
    only_file: Option<bool>,
    owner: Option<Owner>,
    limits: ArtifactLimits,
    files: u64,
    bytes: u64,
}

impl Target {
    fn dir(&mut self, path: &Path) -> Result<(), UnpackError> {
        if self.only_file.is_some() {
            return Ok(());
        }
        self.count_file()?;
        let dir = self.inside(path)?;
        self.make_dirs(&dir, path)
    }

    fn file(&mut self, path: &Path, mode: u32, content: &mut dyn Read) -> Result<(), UnpackError> {
        self.count_file()?;
        let place = self.inside(path)?;
        let place = match self.only_file {
            Some(true) => return Err(UnpackError::NotOneFile),
            Some(false) => {
                self.only_file = Some(true);
                self.root.clone()
            }
            None => {
                self.make_dirs(place.parent().unwrap_or(&self.root), path)?;
                place
            }
        };
        self.write(&place, path, mode, content)
    }

    /// A compressed file without an archive around it.
    fn alone(&mut self, mut content: impl Read) -> Result<(), UnpackError> {
        self.only_file = Some(true);
        let place = self.root.clone();
        self.write(&place, &place, FILE_MODE, &mut content)
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), UnpackError> {
        self.count_file()?;
        if self.only_file.is_some() {
            return Err(UnpackError::NotOneFile);
        }
        let place = self.inside(path)?;
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        // Relative to the link's own directory, and never above the root on the way. A step up
        // after a step down would be taken from wherever another link leads to.
        let steps_up_late = target
            .components()
            .skip_while(|component| !matches!(component, Component::Normal(_)))
            .any(|component| component == Component::ParentDir);
        let is_outside = self.inside(&parent.join(target)).is_err();
        if target.is_absolute() || steps_up_late || is_outside {
            let (name, target) = (path.display().to_string(), target.display().to_string());
            return Err(UnpackError::LinkEscapes { name, target });
        }
        self.make_dirs(place.parent().unwrap_or(&self.root), path)?;
        remove_existing(&place).map_err(failed(path))?;
        symlink(target, &place).map_err(failed(path))?;
        give_to(&place, self.owner).map_err(failed(path))
    }

    fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), UnpackError> {
        self.count_file()?;
        if self.only_file.is_some() {
            return Err(UnpackError::NotOneFile);
        }
        let (place, existing) = (self.inside(path)?, self.inside(target)?);
        self.make_dirs(place.parent().unwrap_or(&self.root), path)?;
        self.make_dirs(existing.parent().unwrap_or(&self.root), target)?;
        let metadata = fs::symlink_metadata(&existing).map_err(failed(target))?;
        if !metadata.is_file() {
            let (name, target) = (path.display().to_string(), target.display().to_string());
            return Err(UnpackError::LinkEscapes { name, target });
        }
        remove_existing(&place).map_err(failed(path))?;
        fs::hard_link(existing, place).map_err(failed(path))
    }

    /// Returns the path below the root that an archive means.
    fn inside(&self, path: &Path) -> Result<PathBuf, UnpackError> {
        let escapes = || UnpackError::Escapes(path.display().to_string());
        let mut inner = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => inner.push(name),
                Component::CurDir => {}
                Component::ParentDir if inner.pop() => {}
                _ => return Err(escapes()),
            }
        }
        Ok(self.root.join(inner))
    }

    /// Makes the directories down to `dir`. None of those that exist may be a link.
    fn make_dirs(&self, dir: &Path, path: &Path) -> Result<(), UnpackError> {
        let relative = dir.strip_prefix(&self.root).unwrap_or_else(|_| Path::new(""));
        let mut at = self.root.clone();
        for name in relative.components() {
            at.push(name);
            match fs::symlink_metadata(&at) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(UnpackError::Escapes(path.display().to_string())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir(&at).map_err(failed(path))?;
                    give_to(&at, self.owner).map_err(failed(path))?;
                }
                Err(error) => return Err(failed(path)(error)),
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        place: &Path,
        name: &Path,
        mode: u32,
        content: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        remove_existing(place).map_err(failed(name))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(place)
            .map_err(failed(name))?;
        let room = self.limits.unpacked_bytes_max.saturating_sub(self.bytes);
        // One byte more than allowed, to see that there is more.
        let mut content = content.take(room.saturating_add(1));
        let written = io::copy(&mut content, &mut file).map_err(failed(name))?;
        if written > room {
            return Err(UnpackError::TooManyBytes(self.limits.unpacked_bytes_max));
        }
        self.bytes += written;
        // Rights that lift the user's own are not taken from strangers.
        file.set_permissions(Permissions::from_mode(mode & 0o777)).map_err(failed(name))?;
        give_to(place, self.owner).map_err(failed(name))
    }

    fn count_file(&mut self) -> Result<(), UnpackError> {
        self.files += 1;
        if self.files > self.limits.files_max {
            return Err(UnpackError::TooManyFiles(self.limits.files_max));
        }
        Ok(())
    }
}

/// A file of an earlier fetch is replaced, not written through: it may be a link, or be running.
fn remove_existing(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
