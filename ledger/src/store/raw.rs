//! What RocksDB's C interface has and its Rust binding lacks: checksums over whole files. This is the
//! only unsafe code of the workspace.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char},
    ptr, slice,
};

use librocksdb_sys as ffi;
use rocksdb::{AsRawPtr as _, DB, Options};

use crate::store::StoreError;

/// The name under which RocksDB knows the checksums that [`keep_file_checksums`] has it make.
const CRC32C: &CStr = c"FileChecksumCrc32c";

/// A table or blob file, as the MANIFEST has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiveFile {
    /// Within the store's folder.
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
    /// CRC-32C of all of it; none where it was written before RocksDB was told to keep one.
    pub(super) checksum: Option<u32>,
}

/// Has RocksDB compute a CRC-32C over each table and blob file that it writes, and keep it in the
/// MANIFEST.
pub(super) fn keep_file_checksums(options: &mut Options) {
    // SAFETY: `options` is borrowed for this call alone, so its pointer is valid and no other thread
    // uses it. The factory is never null. The options take a share of what it points to (a C++
    // `shared_ptr`), so that the handle made here is destroyed here, once.
    unsafe {
        let factory = ffi::rocksdb_file_checksum_gen_crc32c_factory_create();
        ffi::rocksdb_options_set_file_checksum_gen_factory(options.as_raw_ptr(), factory);
        ffi::rocksdb_file_checksum_gen_factory_destroy(factory);
    }
}

/// All table and blob files of an open database. Nothing is flushed for it.
pub(super) fn live_files(db: &DB) -> Result<Vec<LiveFile>, StoreError> {
    let mut error: *mut c_char = ptr::null_mut();
    // SAFETY: `db` is open while it is borrowed, and RocksDB lets any thread ask this. The options are
    // made, used and destroyed here; RocksDB keeps no pointer to them.
    let list = unsafe {
        let options = ffi::rocksdb_livefiles_storage_info_options_create();
        ffi::rocksdb_livefiles_storage_info_options_set_include_checksum_info(options, 1);
        ffi::rocksdb_livefiles_storage_info_options_set_wal_size_for_flush(options, u64::MAX);
        let list =
            ffi::rocksdb_get_livefiles_storage_info(db.as_raw_ptr(), options, &raw mut error);
        ffi::rocksdb_livefiles_storage_info_options_destroy(options);
        list
    };
    if list.is_null() {
        return Err(StoreError::Database(message(error)));
    }
    // SAFETY: `list` is not null, is RocksDB's, and is destroyed after its last use here. Each index is
    // below the count.
    unsafe {
        let count = ffi::rocksdb_livefiles_storage_info_count(list);
        let files = (0..count).filter_map(|index| live_file(list, index)).collect();
        ffi::rocksdb_livefiles_storage_info_destroy(list);
        Ok(files)
    }
}

/// One of the list, where it is a table or blob file: the others have no checksum.
///
/// # Safety
/// `list` is one that RocksDB made and that is not destroyed, and `index` is below its count.
unsafe fn live_file(
    list: *const ffi::rocksdb_livefiles_storage_info_t,
    index: usize,
) -> Option<LiveFile> {
    // SAFETY: as the caller promises. The strings end with a zero and live as long as the list; they are
    // copied here.
    let (name, bytes, function) = unsafe {
        let name =
            CStr::from_ptr(ffi::rocksdb_livefiles_storage_info_relative_filename(list, index));
        let bytes = ffi::rocksdb_livefiles_storage_info_size(list, index);
        let function = ffi::rocksdb_livefiles_storage_info_file_checksum_func_name(list, index);
        (name.to_string_lossy(), bytes, CStr::from_ptr(function))
    };
    let name = name.trim_start_matches('/').to_owned();
    if !name.ends_with(".sst") && !name.ends_with(".blob") {
        return None;
    }
    let checksum = (function == CRC32C).then(|| {
        // SAFETY: the function of this name makes 4 bytes, big-endian, of which some may be zero
        // (`FileChecksumGenCrc32c::Finalize`). They are read as memory and not as a C string. That
        // memory is there even if the text were shorter: a `std::string` has its text in itself or on
        // the heap, in at least 16 bytes.
        let bytes = unsafe {
            let text = ffi::rocksdb_livefiles_storage_info_file_checksum(list, index);
            slice::from_raw_parts(text.cast::<u8>(), 4)
        };
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    });
    Some(LiveFile { name, bytes, checksum })
}

/// Takes over a message of RocksDB's.
fn message(error: *mut c_char) -> String {
    if error.is_null() {
        return "no list of its files".to_owned();
    }
    // SAFETY: RocksDB sets the pointer to a string of its own that ends with a zero and that the caller
    // frees; this is its only use.
    unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        ffi::rocksdb_free(error.cast());
        text
    }
}
