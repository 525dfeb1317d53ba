//! How HDF5's C library reaches a file: through ranges of [`Raw`], read only, and no other file.
//!
//! The library takes drivers ("virtual file drivers"). This one reads pages of one file, wherever it lies, and refuses to open a
//! second: a file that names others, as external links do, gets nothing from them. A handle never outlives [`with_file`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::OnceLock;

use hdf5_metno::{File, from_id, silence_errors};
use hdf5_metno_sys::h5f::{H5F_ACC_RDONLY, H5F_close_degree_t, H5Fopen};
use hdf5_metno_sys::h5fd::{H5FD_class_t, H5FDregister};
use hdf5_metno_sys::h5i::hid_t;
use hdf5_metno_sys::h5p::{H5P_CLS_FILE_ACCESS, H5Pclose, H5Pcreate, H5Pset_driver, H5Pset_fclose_degree};
use hdf5_metno_sys::h5pl::H5PLset_loading_state;

use super::super::raw::Raw;
use crate::Error;

mod trial;

/// Bytes that are read at once; the library asks for few at a time.
const PAGE_BYTES: u64 = 64 << 10;
/// Pages that are kept: the library goes back and forth between them.
const PAGES: usize = 256;
/// How the library calls the file; the driver needs no name.
const NAME: &[u8; 5] = b"file\0";

/// Opens a file for the time of `work`. The library does one thing at a time, in all threads.
///
/// The library trusts a file's numbers, and some damaged ones make it crash. So a child process does the work first (`trial.rs`).
///
/// # Errors
/// The file cannot be read, the library does not understand it or crashes at it, or `work` fails.
pub fn with_file<T>(raw: Raw<'_>, work: impl Fn(&File) -> Result<T, String>) -> Result<T, Error> {
    // This also starts the library.
    silence_errors(true);
    let _one_at_a_time = hdf5_metno_sys::LOCK.lock();
    driver();
    let pages = Pages { raw, pages: RefCell::default(), failed: RefCell::default(), parent: None };
    trial::survives(&pages, |pages| drop(run(pages, &work)))?;
    run(&pages, work)
}

fn run<T>(pages: &Pages<'_>, work: impl FnOnce(&File) -> Result<T, String>) -> Result<T, Error> {
    let raw = pages.raw;
    let opened = open(pages).map_err(|why| raw.error(format!("cannot be opened as HDF5: {why}")));
    let found = opened.and_then(|file| {
        let found = work(&file).map_err(|message| raw.error(message));
        // What `work` left open goes along: see `H5F_CLOSE_STRONG`.
        drop(file);
        found
    });
    // Of what could not be read, the library only says that it could not be.
    match pages.failed.take() {
        Some(error) if found.is_err() => Err(error),
        _ => found,
    }
}

fn open(pages: &Pages<'_>) -> Result<File, String> {
    let driver = driver().ok_or("the library takes no driver")?;
    CURRENT.set(ptr::from_ref(pages).cast());
    // SAFETY: the library's lock is held; the list of properties is closed, whatever happens.
    let id = unsafe {
        let list = H5Pcreate(*H5P_CLS_FILE_ACCESS);
        let ready = H5Pset_driver(list, driver, ptr::null()) >= 0
            && H5Pset_fclose_degree(list, H5F_close_degree_t::H5F_CLOSE_STRONG) >= 0;
        let id = if ready { H5Fopen(NAME.as_ptr().cast(), H5F_ACC_RDONLY, list) } else { -1 };
        H5Pclose(list);
        id
    };
    CURRENT.set(ptr::null());
    if id < 0 {
        return Err(why());
    }
    // SAFETY: the library has just made this file's id, and nobody else has it.
    unsafe { from_id(id) }.map_err(|error| error.to_string())
}

/// What the library says last of what went wrong: the innermost reason.
pub fn why() -> String {
    let stack = hdf5_metno::Error::query().ok().and_then(|error| error.stack());
    let innermost = stack.and_then(|stack| stack.last().map(|frame| frame.desc().to_owned()));
    innermost.unwrap_or_else(|| "the library does not say why".to_owned())
}

thread_local! {
    /// The file that the driver may open next, and once.
    static CURRENT: Cell<*const Pages<'static>> = const { Cell::new(ptr::null()) };
}

/// A file's pages that were read lately.
struct Pages<'a> {
    raw: Raw<'a>,
    pages: RefCell<HashMap<u64, Vec<u8>>>,
    /// What kept a page from being read.
    failed: RefCell<Option<Error>>,
    /// In a child process: the parent, which reads pages for it.
    parent: Option<trial::Parent>,
}

impl Pages<'_> {
    /// Fills a buffer from that byte on.
    fn fill(&self, mut at: u64, mut buffer: &mut [u8]) -> Result<(), Error> {
        let end = at.checked_add(buffer.len() as u64).filter(|&end| end <= self.raw.size);
        if end.is_none() {
            return Err(self.raw.error(format!("is damaged: it names {} bytes at byte {at}, beyond its end", buffer.len())));
        }
        let mut pages = self.pages.borrow_mut();
        while !buffer.is_empty() {
            let (page, within) = (at / PAGE_BYTES, at % PAGE_BYTES);
            if !pages.contains_key(&page) {
                if pages.len() >= PAGES {
                    pages.clear();
                }
                pages.insert(page, self.page(page)?);
            }
            let found = &pages[&page][within as usize..];
            let length = found.len().min(buffer.len());
            let (now, rest) = buffer.split_at_mut(length);
            now.copy_from_slice(&found[..length]);
            (at, buffer) = (at + length as u64, rest);
        }
        Ok(())
    }

    fn page(&self, page: u64) -> Result<Vec<u8>, Error> {
        let start = page * PAGE_BYTES;
        let length = PAGE_BYTES.min(self.raw.size - start);
        match &self.parent {
            Some(parent) => parent.page(page, length as usize).map_err(|error| Error::io(self.raw.path, error)),
            None => self.raw.read(start, length),
        }
    }
}

/// The driver's id, once it is known to the library.
fn driver() -> Option<hid_t> {
    static DRIVER: OnceLock<hid_t> = OnceLock::new();
    let id = *DRIVER.get_or_init(|| {
        let class = Class {
            version: 1,
            // Numbers from 256 on are for drivers that are not the library's.
            value: 0x1d3,
            name: c"tessera".as_ptr(),
            maxaddr: i64::MAX as u64,
            fc_degree: H5F_close_degree_t::H5F_CLOSE_STRONG as c_int,
            open: Some(on_open),
            close: Some(on_close),
            query: Some(on_query),
            get_eoa: Some(on_get_eoa),
            set_eoa: Some(on_set_eoa),
            get_eof: Some(on_get_eof),
            read: Some(on_read),
            write: Some(on_write),
            ..Class::NONE
        };
        // SAFETY: `Class` has the layout of version 1 of `H5FD_class_t`; the library checks the version, and copies the struct. No
        // code is loaded for a file's sake.
        unsafe {
            // A number, which the crate declares as a pointer.
            H5PLset_loading_state(ptr::null_mut());
            H5FDregister(ptr::from_ref(&class).cast::<H5FD_class_t>())
        }
    });
    (id >= 0).then_some(id)
}

/// `H5FD_class_t` of H5FDdevelop.h, version 1. The crate's own struct is that of an earlier version.
#[repr(C)]
struct Class {
    version: c_uint,
    value: c_int,
    name: *const c_char,
    maxaddr: u64,
    fc_degree: c_int,
    terminate: Unused,
    superblock: [Unused; 3],
    fapl_size: usize,
    fapl: [Unused; 3],
    dxpl_size: usize,
    dxpl: [Unused; 2],
    open: Option<unsafe extern "C" fn(*const c_char, c_uint, hid_t, u64) -> *mut Opened>,
    close: Option<unsafe extern "C" fn(*mut Opened) -> c_int>,
    cmp: Unused,
    query: Option<unsafe extern "C" fn(*const Opened, *mut c_ulong) -> c_int>,
    get_type_map: Unused,
    space: [Unused; 2],
    get_eoa: Option<unsafe extern "C" fn(*const Opened, c_int) -> u64>,
    set_eoa: Option<unsafe extern "C" fn(*mut Opened, c_int, u64) -> c_int>,
    get_eof: Option<unsafe extern "C" fn(*const Opened, c_int) -> u64>,
    get_handle: Unused,
    read: Option<unsafe extern "C" fn(*mut Opened, c_int, hid_t, u64, usize, *mut c_void) -> c_int>,
    write: Option<unsafe extern "C" fn(*mut Opened, c_int, hid_t, u64, usize, *const c_void) -> c_int>,
    many: [Unused; 4],
    flush: Unused,
    truncate: Unused,
    locks: [Unused; 2],
    del: Unused,
    ctl: Unused,
    fl_map: [c_int; 7],
}

/// A callback that this driver lacks.
type Unused = Option<unsafe extern "C" fn()>;

impl Class {
    const NONE: Self = Self {
        version: 0,
        value: 0,
        name: ptr::null(),
        maxaddr: 0,
        fc_degree: 0,
        terminate: None,
        superblock: [None; 3],
        fapl_size: 0,
        fapl: [None; 3],
        dxpl_size: 0,
        dxpl: [None; 2],
        open: None,
        close: None,
        cmp: None,
        query: None,
        get_type_map: None,
        space: [None; 2],
        get_eoa: None,
        set_eoa: None,
        get_eof: None,
        get_handle: None,
        read: None,
        write: None,
        many: [None; 4],
        flush: None,
        truncate: None,
        locks: [None; 2],
        del: None,
        ctl: None,
        fl_map: [0; 7],
    };
}

/// An open file: what the library keeps of one (`H5FD_t`), then what the driver does.
#[repr(C)]
struct Opened {
    driver_id: hid_t,
    class: *const c_void,
    fileno: c_ulong,
    access_flags: c_uint,
    feature_flags: c_ulong,
    maxaddr: u64,
    base_addr: u64,
    threshold: u64,
    alignment: u64,
    paged_aggr: bool,
    /// Bytes that the library takes for the file's.
    allocated: u64,
    pages: *const Pages<'static>,
}

// SAFETY of what follows: the library hands in what `on_open` returned, while the file is open. That is within `with_file`, which
// holds the pages, and on its thread, for it holds the library's lock.

unsafe extern "C" fn on_open(_: *const c_char, _: c_uint, _: hid_t, _: u64) -> *mut Opened {
    let pages = CURRENT.replace(ptr::null());
    if pages.is_null() {
        return ptr::null_mut();
    }
    Box::into_raw(Box::new(Opened {
        driver_id: 0,
        class: ptr::null(),
        fileno: 0,
        access_flags: 0,
        feature_flags: 0,
        maxaddr: 0,
        base_addr: 0,
        threshold: 0,
        alignment: 0,
        paged_aggr: false,
        allocated: 0,
        pages,
    }))
}

unsafe extern "C" fn on_close(file: *mut Opened) -> c_int {
    drop(unsafe { Box::from_raw(file) });
    0
}

unsafe extern "C" fn on_query(_: *const Opened, flags: *mut c_ulong) -> c_int {
    if !flags.is_null() {
        unsafe { *flags = 0 };
    }
    0
}

unsafe extern "C" fn on_get_eoa(file: *const Opened, _: c_int) -> u64 {
    unsafe { (*file).allocated }
}

unsafe extern "C" fn on_set_eoa(file: *mut Opened, _: c_int, end: u64) -> c_int {
    unsafe { (*file).allocated = end };
    0
}

unsafe extern "C" fn on_get_eof(file: *const Opened, _: c_int) -> u64 {
    unsafe { (*(*file).pages).raw.size }
}

unsafe extern "C" fn on_read(file: *mut Opened, _: c_int, _: hid_t, at: u64, size: usize, buffer: *mut c_void) -> c_int {
    let (pages, buffer) = unsafe { (&*(*file).pages, std::slice::from_raw_parts_mut(buffer.cast::<u8>(), size)) };
    // Memory that the library has not written to yet is none that may be looked at.
    buffer.fill(0);
    match catch_unwind(AssertUnwindSafe(|| pages.fill(at, buffer))) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            pages.failed.borrow_mut().get_or_insert(error);
            -1
        }
        Err(_) => -1,
    }
}

/// The library wants a driver that can write. It has no reason to ask this one.
unsafe extern "C" fn on_write(_: *mut Opened, _: c_int, _: hid_t, _: u64, _: usize, _: *const c_void) -> c_int {
    -1
}
