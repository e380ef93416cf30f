//! Files that belong to records: their roots, and how they go to a node and come back.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use customhouse_files::readfile;
use customhouse_ledger::{
    attachment::AttachmentBuilder,
    hash::Hash,
    limits::{ATTACHMENT_BYTES_MAX, FILE_NAME_BYTES_MAX, MEDIA_TYPE_BYTES_MAX},
    text,
};
use customhouse_proto::v1::{self, attachments_client::AttachmentsClient, upload_request::Message};
use futures::{Stream, stream};
use tonic::{Code, Streaming, transport::Channel};

use crate::{client::Client, contract::CHUNK_BYTES_MAX, error::ClientError};

/// How often an upload or a download that broke off is taken up again.
const TRIES_MAX: usize = 5;
/// Media types by the ends of files' names.
const MEDIA_TYPES: [(&str, &str); 10] = [
    ("pdf", "application/pdf"),
    ("xml", "application/xml"),
    ("json", "application/json"),
    ("csv", "text/csv"),
    ("txt", "text/plain"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
];

/// Reads a file, and says what a record says of it. The name is left out where the chain does not take it; where
/// no media type is given, it follows from the name.
///
/// # Errors
/// The system's answer, or a media type that the chain does not take.
pub fn attachment_of(path: &Path, media_type: Option<&str>) -> io::Result<v1::Attachment> {
    let media_type = media_type.unwrap_or_else(|| media_type_of(path));
    let fits = media_type.len() <= MEDIA_TYPE_BYTES_MAX && text::check_name(media_type).is_ok();
    if !fits {
        let reason = format!("`{media_type}` is no media type such as application/pdf");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let (mut file, mut builder) = (readfile::open(path)?, AttachmentBuilder::default());
    let length = file.metadata()?.len();
    if length > ATTACHMENT_BYTES_MAX {
        let reason = format!("{length} bytes, an attachment has at most {ATTACHMENT_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let mut bytes = vec![0; CHUNK_BYTES_MAX];
    loop {
        match file.read(&mut bytes)? {
            0 => break,
            count => builder.push(&bytes[..count]),
        }
    }
    let (root, size) = builder.finish();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_taken = name.len() <= FILE_NAME_BYTES_MAX && text::check_name(name).is_ok();
    Ok(v1::Attachment {
        root: root.0.to_vec(),
        size,
        media_type: media_type.to_owned(),
        name: if is_taken { name.to_owned() } else { String::new() },
    })
}

fn media_type_of(path: &Path) -> &'static str {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    let known = MEDIA_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(end));
    known.map_or("application/octet-stream", |(_, media_type)| media_type)
}

impl Client {
    fn attachments(&self) -> AttachmentsClient<Channel> {
        AttachmentsClient::new(self.channel())
    }

    /// What the node holds of an attachment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn attachment_held(&self, root: &Hash) -> Result<v1::StatResponse, ClientError> {
        let request = v1::StatRequest { root: root.0.to_vec() };
        Ok(self.attachments().stat(request).await?.into_inner())
    }

    /// Uploads messages as they are: a header first, then chunks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload(
        &self,
        messages: impl Stream<Item = v1::UploadRequest> + Send + 'static,
    ) -> Result<v1::UploadResponse, ClientError> {
        Ok(self.attachments().upload(messages).await?.into_inner())
    }

    /// Uploads a file, and says what a record says of it. What is at the node already is not sent again; what
    /// breaks off is taken up again.
    ///
    /// # Errors
    /// The file cannot be read or changes meanwhile, or the node does not take it; see [`ClientError`].
    pub async fn upload_file(
        &self,
        path: &Path,
        media_type: Option<&str>,
    ) -> Result<v1::Attachment, ClientError> {
        let unread = |source| ClientError::File { path: path.to_owned(), source };
        let attachment = attachment_of(path, media_type).map_err(unread)?;
        let root = Hash::from_slice(&attachment.root).unwrap_or_default();
        let mut tries = 0;
        loop {
            let held = match self.attachment_held(&root).await {
                Ok(held) => held,
                Err(error) if broke_off(&error) && tries < TRIES_MAX => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if held.complete {
                return Ok(attachment);
            }
            // Where what is there is not this file's beginning, it is sent from its own.
            let offset = if tries == TRIES_MAX { 0 } else { held.uploaded };
            match self.upload_from(path, &attachment, offset).await {
                Ok(_) => return Ok(attachment),
                Err(error) if tries < TRIES_MAX && (broke_off(&error) || offset > 0) => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn upload_from(
        &self,
        path: &Path,
        attachment: &v1::Attachment,
        offset: u64,
    ) -> Result<(), ClientError> {
        let unread = |source| ClientError::File { path: path.to_owned(), source };
        let mut file = readfile::open(path).map_err(unread)?;
        file.seek(SeekFrom::Start(offset)).map_err(unread)?;
        let v1::Attachment { root, size, .. } = attachment.clone();
        let header = Message::Header(v1::UploadHeader { size, root, offset });
        let failed = Arc::new(Mutex::new(None));
        let failure = Arc::clone(&failed);
        let reading = (file, Some(header));
        let messages = stream::unfold(reading, move |(mut file, header)| {
            let message = header.or_else(|| match chunk(&mut file) {
                Ok(chunk) => chunk.map(Message::Chunk),
                Err(error) => {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    None
                }
            });
            async move { Some((v1::UploadRequest { message: Some(message?) }, (file, None))) }
        });
        let uploaded = self.upload(messages).await;
        match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(source) => Err(unread(source)),
            None => uploaded.map(drop),
        }
    }

    /// The bytes of an attachment from an offset on, as they come and unverified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn download(
        &self,
        root: &Hash,
        offset: u64,
    ) -> Result<Streaming<v1::DownloadResponse>, ClientError> {
        let request = v1::DownloadRequest { root: root.0.to_vec(), offset };
        Ok(self.attachments().download(request).await?.into_inner())
    }

    /// Downloads an attachment, and verifies it; gives its size. What breaks off is taken up again. Where this
    /// fails, what was written is not the attachment.
    ///
    /// # Errors
    /// The node does not hold it, gives other bytes, or they cannot be written; see [`ClientError`].
    pub async fn download_to(
        &self,
        root: &Hash,
        path: &Path,
        mut to: impl Write,
    ) -> Result<u64, ClientError> {
        let (mut builder, mut tries) = (AttachmentBuilder::default(), 0);
        loop {
            match self.download_on(root, path, &mut builder, &mut to).await {
                Ok(()) => break,
                Err(error) if broke_off(&error) && tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
        let (found, size) = builder.finish();
        if found != *root {
            return Err(ClientError::Answer(format!(
                "the {size} bytes that came are not attachment {root}: their root is {found}"
            )));
        }
        Ok(size)
    }

    async fn download_on(
        &self,
        root: &Hash,
        path: &Path,
        builder: &mut AttachmentBuilder,
        to: &mut impl Write,
    ) -> Result<(), ClientError> {
        let mut pieces = self.download(root, builder.size()).await?;
        while let Some(piece) = pieces.message().await? {
            if builder.size() + piece.data.len() as u64 > ATTACHMENT_BYTES_MAX {
                return Err(ClientError::Answer(
                    "more bytes than an attachment may have".to_owned(),
                ));
            }
            let unwritten = |source| ClientError::File { path: path.to_owned(), source };
            to.write_all(&piece.data).map_err(unwritten)?;
            builder.push(&piece.data);
        }
        Ok(())
    }
}

/// The next bytes of a file; nothing at its end.
fn chunk(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(CHUNK_BYTES_MAX);
    file.take(CHUNK_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// Whether a call ended for no reason of the node's.
fn broke_off(error: &ClientError) -> bool {
    let codes = [Code::Unavailable, Code::Cancelled, Code::Unknown, Code::Internal];
    error
        .refused()
        .is_some_and(|refused| refused.reason_code.is_empty() && codes.contains(&refused.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_follows_from_the_name_unless_it_is_given() {
        for (name, media_type) in [
            ("a.pdf", "application/pdf"),
            ("a.b.JPG", "image/jpeg"),
            ("pdf", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(media_type_of(Path::new(name)), media_type, "{name}");
        }
    }

    #[test]
    fn a_name_that_the_chain_does_not_take_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, taken) in [("Rechnung 7.pdf", true), ("a  b.pdf", false), ("a\u{202e}b", false)]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, b"bytes").expect("written");
            let attachment = attachment_of(&path, None).expect("read");
            assert_eq!((attachment.name == name, attachment.size), (taken, 5), "{name}");
        }
        let wrong = attachment_of(&folder.path().join("Rechnung 7.pdf"), Some("a\nb"));
        assert_eq!(wrong.expect_err("refused").kind(), io::ErrorKind::InvalidInput);
    }
}
