use std::collections::BTreeSet;

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::Model;

use super::super::model_file;
use super::report::Report;
use crate::config::Config;
use crate::store::{FoundKey, Inspection, RunningServer, StoreError, lock_holder};

const AREA: &str = "database";

/// `None`: there is no database.
pub fn check(
    report: &mut Report,
    config: &Config,
    inspection: &Result<Option<Inspection>, StoreError>,
) {
    let path = &config.database;
    let inspection = match inspection {
        Ok(Some(inspection)) => inspection,
        Ok(None) => {
            return report.problem(
                AREA,
                format!("{path} does not exist"),
                "pass the settings of the server (--config, --database); the first `serve` makes it",
            );
        }
        Err(error) => {
            return report.problem(
                AREA,
                error.to_string(),
                "run this as the service's user, choose another database, or restore a backup",
            );
        }
    };
    check_tables(report, config, inspection);
    check_master_key(report, config, &inspection.master_key);
    check_models(report, config, inspection);
    if let Some(servers) = &inspection.servers {
        check_servers(report, servers);
    }
}

fn check_tables(report: &mut Report, config: &Config, inspection: &Inspection) {
    let path = &config.database;
    let (version, own) = (inspection.version, inspection.own_version);
    if let Some(damage) = &inspection.damage {
        report.problem(
            AREA,
            format!("{path} is damaged: {damage}"),
            "stop the server and restore a backup; then check the disk (`smartctl`, `journalctl -k`)",
        );
    }
    if version > own && !inspection.is_usable {
        report.problem(
            AREA,
            format!("a newer version wrote {path} (schema {version}, this one knows {own})"),
            "run the version that wrote it",
        );
    } else if version < own {
        report.warning(
            AREA,
            format!("an earlier version wrote {path} (schema {version} of {own}), so not all was checked"),
            "make a backup; the next start upgrades it, and there is no way back",
        );
    }
    if inspection.has_unread_log {
        report.warning(
            AREA,
            format!("{path}-wal holds changes that were not read here"),
            "keep it beside the database; the next start takes them over",
        );
    }
    if inspection.damaged_rows > 0 {
        report.problem(
            AREA,
            format!("{} rows cannot be decrypted", inspection.damaged_rows),
            "see BipedalnetDamagedRows in docs/runbook.md",
        );
    }
    if report.is_clean(AREA) {
        report.ok(AREA, format!("{path} is whole: {} users, schema {version}", inspection.users));
    }
}

fn check_master_key(report: &mut Report, config: &Config, key: &FoundKey) {
    const AREA: &str = "master key";
    match key {
        FoundKey::Opens { place, is_beside_database: true } => report.warning(
            AREA,
            format!("{place} is beside the database, so a copy of the disk can be read"),
            "move it (docs/operation.md, Encryption), and keep a copy apart from the backups",
        ),
        FoundKey::Opens { place, .. } => report.ok(AREA, format!("the one from {place} opens the keyring")),
        FoundKey::Missing if config.database.file().and_then(lock_holder).is_some() => {
            report.ok(AREA, "the running server has it; this command cannot see it");
        }
        FoundKey::Missing => report.warning(
            AREA,
            "it is not visible here",
            "if systemd passes it as a credential, all is well; otherwise set master-key-file",
        ),
        FoundKey::Unusable(error) => report.problem(
            AREA,
            error.to_string(),
            "without the right key and keyring, nothing can be read: find them, or restore a backup",
        ),
        FoundKey::NotNeeded => {}
    }
}

fn check_servers(report: &mut Report, servers: &[RunningServer]) {
    const AREA: &str = "server";
    let names = |name: fn(&RunningServer) -> &str| -> Vec<&str> {
        let names: BTreeSet<&str> = servers.iter().map(name).collect();
        names.into_iter().collect()
    };
    let hosts = names(|server| &server.host).join(", ");
    let versions = names(|server| &server.version);
    match (servers.len(), &versions[..]) {
        (0, _) => report.ok(AREA, "no server of the database runs"),
        (count, [version]) => {
            report.ok(AREA, format!("{count} of version {version} run on {hosts}"));
        }
        (count, _) => report.warning(
            AREA,
            format!("{count} of versions {} run on {hosts}", versions.join(" and ")),
            "finish the upgrade, or go back (docs/upgrade.md, Several servers)",
        ),
    }
}

fn check_models(report: &mut Report, config: &Config, inspection: &Inspection) {
    const AREA: &str = "model";
    let read = |file: &[u8]| -> Result<String, String> {
        let model = Model::from_bytes(file).map_err(|error| error.to_string())?;
        let id = model.id().to_owned();
        GaitModel::new(model).map_err(|error| error.to_string())?;
        Ok(id)
    };
    if let Some(path) = &config.model {
        let file = model_file::read(path).map_err(|error| error.to_string());
        if let Err(error) = file.and_then(|file| read(&file)) {
            report.problem(
                AREA,
                error,
                "the server does not start with it: remove `model`, or name another",
            );
        }
    }
    match &inspection.active_model {
        Some((id, file)) => match read(file) {
            Ok(found) if found == *id => {}
            Ok(found) => {
                report.problem(AREA, format!("{id} holds the file of {found}"), "restore a backup");
            }
            Err(error) => report.problem(AREA, format!("{id}: {error}"), "restore a backup"),
        },
        None if inspection.is_usable => report.warning(
            AREA,
            "none is active",
            "the next start activates the one that it is given",
        ),
        None => {}
    }
    if report.is_clean(AREA)
        && let Some((id, _)) = &inspection.active_model
    {
        report.ok(AREA, format!("{id} is active, and its file is whole"));
    }
}
