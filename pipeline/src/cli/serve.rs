//! `tessera serve`.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{InFile, Namespace, Session, Usage, page};
use crate::ask::page::report::argument;
use crate::serve::guard::Guard;
use crate::serve::site::{Parts, Site};
use crate::serve::{listen, serve};
use crate::watch::interrupt;
use crate::watch::progress::tell;

/// What the help says beside.
pub const HELP: &str = "\
The pages show what `report -o` shows and more: each cluster, each image with its nearest ones, two clusterings compared, clusters against
classes, curves while a run goes on, and a box for SQL. They read the newest tables at each load, and a run needs no server. It prints the
address and serves until ^C. Nobody but this machine is answered, unless --bind says so. Examples:
  tessera serve
  tessera serve pipeline.toml --open
  tessera serve pipeline.toml --limit 1000 --port 8000
  tessera serve pipeline.toml --bind 0.0.0.0 --token \"$(openssl rand -hex 16)\"";

/// Characters that a token has at least.
const TOKEN: usize = 16;

/// Which pipeline, and who is answered.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    file: InFile,
    #[command(flatten)]
    namespace: Namespace,
    /// The port; the next that is free if it is taken.
    #[arg(long, value_name = "N", default_value_t = 7878, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// An address of this machine to answer at, for other machines: 0.0.0.0 means all of them. It needs --token.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// What whoever asks has to know, 16 characters or more: the first address that they open has it.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Open a browser.
    #[arg(long)]
    open: bool,
    /// Let pages write what people say, such as names of clusters.
    #[arg(long)]
    edit: bool,
}

impl Serve {
    /// Serves until somebody ends it, and returns the exit code.
    ///
    /// # Errors
    /// The file is wrong and nothing of it is made, or there is no port.
    pub fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<u8> {
        self.check()?;
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let interrupt = session.catalog.engine.interrupt.clone();
        interrupt.install()?;
        let listener = listen(self.bind, self.port)?;
        let port = listener.local_addr().context("cannot listen")?.port();
        if port != self.port {
            tell(format_args!("note: port {} is taken, so it is {port}", self.port));
        }
        let address = self.address(port);
        let open = self.open;
        let site = Arc::new(Site::new(self.parts(&session, port, threads))?);
        writeln!(out, "{address}")?;
        out.flush()?;
        if open {
            open_browser(&address);
        }
        let served = session.runtime.block_on(serve(listener, site, async move { interrupt.wait().await }));
        // What pages asked for is not waited for.
        session.runtime.shutdown_background();
        served?;
        Ok(interrupt::exit_code())
    }

    fn check(&self) -> Result<(), Usage> {
        let token = self.token.as_deref().unwrap_or_default();
        if !self.bind.is_loopback() && token.is_empty() {
            return Err(Usage(format!(
                "--bind {} answers other machines: give --token TOKEN, which they have to know",
                self.bind
            )));
        }
        let is_plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
        if self.token.is_some() && (token.len() < TOKEN || !is_plain) {
            return Err(Usage(format!("a token has {TOKEN} characters or more, of letters, digits and - _ . ~")));
        }
        Ok(())
    }

    /// The address that a person opens.
    fn address(&self, port: u16) -> String {
        let host = match self.bind {
            IpAddr::V6(address) => format!("[{address}]"),
            address => address.to_string(),
        };
        let token = self.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
        format!("http://{host}:{port}/{token}")
    }

    fn parts(self, session: &Session, port: u16, threads: Option<u16>) -> Parts {
        let limit = self.namespace.limit;
        let mut arguments = argument(&self.file.path);
        // Where a query's process finds the file, wherever it starts.
        let path = std::path::absolute(&self.file.path).unwrap_or_else(|_| self.file.path.clone());
        let mut words = vec![path.clone().into_os_string()];
        for set in &self.file.overrides {
            arguments.push_str(&format!(" --set {}", set.quoted()));
            words.extend(["--set".into(), set.to_string().into()]);
        }
        if let Some(limit) = limit {
            arguments.push_str(&format!(" --limit {limit}"));
            words.extend(["--limit", &limit.to_string()].map(|word| OsStr::new(word).to_owned()));
        }
        let file = self.file.clone();
        Parts {
            arguments,
            file: path,
            words,
            guard: Guard { bound: self.bind, port, token: self.token },
            edit: self.edit,
            store: session.catalog.store.clone(),
            reader: session.reader(self.file),
            foretell: Box::new(move || page::states(&file, threads, limit)),
        }
    }
}

/// Has the system open an address; that it cannot is no reason to stop.
fn open_browser(address: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut call = Command::new(program);
    call.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match call.spawn() {
        // Its end is waited for beside.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => tell(format_args!("note: no browser could be opened: {program}: {error}")),
    }
}
