//! The certificates of TLS listeners: replaced when their files change, or with the configuration,
//! without a connection being cut.

use crate::config::Config;
use crate::config::secret::Secrets;
use crate::config::tls::TlsSource;
use crate::net::tls::server::TlsServer;
use crate::types::name::ListenerName;
use crate::types::tls::TlsServerSettings;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;

/// How often the files are looked at. A renewal is days before the end of a certificate.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The certificates of the running TLS listeners. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Certificates(Arc<Vec<Shown>>);

/// What one listener shows.
pub(super) struct Shown {
    /// `None`: HTTP.
    name: Option<ListenerName>,
    server: TlsServer,
    source: Mutex<(TlsSource, Stamps)>,
}

/// What tells that a file was replaced or written to.
type Stamps = Vec<Option<(SystemTime, u64, u64)>>;

impl Shown {
    pub(super) fn new(name: Option<ListenerName>, server: TlsServer, source: TlsSource) -> Self {
        let stamps = stamps(&source);
        Self { name, server, source: Mutex::new((source, stamps)) }
    }

    // No code that can panic runs under the lock, so a poisoned one is still sound.
    fn source(&self) -> MutexGuard<'_, (TlsSource, Stamps)> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> &str {
        self.name.as_ref().map_or("[http]", ListenerName::as_str)
    }

    fn replace(&self, settings: &TlsServerSettings) {
        match self.server.replace(settings) {
            Ok(()) => tracing::info!(listener = self.name(), "a new certificate is shown"),
            Err(error) => self.keep(&error),
        }
    }

    fn keep(&self, error: &dyn std::error::Error) {
        tracing::error!(listener = self.name(), %error,
            "the new certificate cannot be used; the old one is still shown");
    }

    /// Reads the files again where they changed.
    fn look(&self, secrets: &dyn Secrets) {
        let source = {
            let mut known = self.source();
            let now = stamps(&known.0);
            if now == known.1 {
                return;
            }
            known.1 = now;
            known.0.clone()
        };
        match source.read(secrets) {
            Ok(settings) => self.replace(&settings),
            // A certificate may be there a moment before its key: the next change is looked at too.
            Err(fault) => self.keep(&fault),
        }
    }
}

impl Certificates {
    pub(super) fn new(shown: Vec<Shown>) -> Self {
        Self(Arc::new(shown))
    }

    /// Brings what a new configuration says into force.
    pub(super) fn reload(&self, config: &Config) {
        for shown in self.0.iter() {
            let tls = match &shown.name {
                None => config.node().http.tls.as_ref(),
                Some(name) => {
                    let mut listeners = config.node().listeners.iter();
                    let listener = listeners.find(|listener| listener.name == *name);
                    listener.and_then(|listener| listener.tls.as_ref())
                }
            };
            let Some(tls) = tls else { continue };
            *shown.source() = (tls.source.clone(), stamps(&tls.source));
            shown.replace(&tls.settings);
        }
    }

    /// Reads the files that changed again.
    fn look(&self, secrets: &dyn Secrets) {
        for shown in self.0.iter() {
            shown.look(secrets);
        }
    }

    /// Looks at the files again and again until `stop`.
    pub(super) async fn watch(self, secrets: Arc<dyn Secrets>, mut stop: watch::Receiver<bool>) {
        if self.0.is_empty() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let (own, secrets) = (self.clone(), Arc::clone(&secrets));
            if tokio::task::spawn_blocking(move || own.look(&*secrets)).await.is_err() {
                tracing::error!("looking at certificates panicked");
            }
        }
    }
}

fn stamps(source: &TlsSource) -> Stamps {
    let stamp = |path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    source.files().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::LocalSecrets;
    use crate::config::tls::AskClients;
    use crate::types::tls::TlsVersion;
    use rcgen::generate_simple_self_signed;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    impl Folder {
        fn new() -> Self {
            let name = format!("tandem-certificates-{}", crate::clock::random_u64());
            let folder = Self(std::env::temp_dir().join(name));
            fs::create_dir(&folder.0).unwrap();
            folder
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).to_string_lossy().into_owned()
        }

        /// Puts a new pair where the old one was, as renewal programs do: by rename.
        fn renew(&self) {
            let made = generate_simple_self_signed(["sbc.example".to_owned()]).unwrap();
            for (name, text) in
                [("cert", made.cert.pem()), ("key", made.signing_key.serialize_pem())]
            {
                fs::write(self.path("new"), text).unwrap();
                fs::rename(self.path("new"), self.path(name)).unwrap();
            }
        }

        fn source(&self) -> TlsSource {
            TlsSource {
                certificate: self.path("cert"),
                key: format!("file:{}", self.path("key")),
                min_version: TlsVersion::V1_2,
                clients: AskClients::Ignore,
                client_authorities: String::new(),
            }
        }
    }

    #[test]
    fn a_pair_is_read_again_when_its_files_change_and_kept_when_they_are_broken() {
        let folder = Folder::new();
        folder.renew();
        let secrets = LocalSecrets::new([], None);
        let settings = folder.source().read(&secrets).unwrap();
        let server = TlsServer::new(&settings).unwrap();
        let before = server.version();
        let shown = Shown::new("public".parse().ok(), server.clone(), folder.source());
        let certificates = Certificates::new(vec![shown]);
        certificates.look(&secrets);
        assert_eq!(server.version(), before, "nothing changed");
        folder.renew();
        certificates.look(&secrets);
        let renewed = server.version();
        assert_ne!(renewed, before);
        fs::write(folder.path("key"), "nonsense").unwrap();
        certificates.look(&secrets);
        assert_eq!(server.version(), renewed, "what works is kept");
        folder.renew();
        certificates.look(&secrets);
        assert_ne!(server.version(), renewed);
    }
}
