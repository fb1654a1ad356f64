//! The files `~/.aws/config` and `~/.aws/credentials`.
//!
//! Source: "Shared config and credentials files", AWS SDKs and tools reference guide.

/// The content of both files.
#[derive(Default)]
pub struct Files {
    profiles: Vec<(String, Profile)>,
    sessions: Vec<(String, Profile)>,
}

/// The settings of a profile or a single sign-on session.
#[derive(Clone, Default)]
pub struct Profile(Vec<(String, String)>);

impl Profile {
    /// A setting.
    pub fn get(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

impl Files {
    /// Parses both files; settings of the second take precedence.
    pub fn parse(config: &str, credentials: &str) -> Self {
        let mut files = Self::default();
        files.read(config, true);
        files.read(credentials, false);
        files
    }

    /// The profile of this name.
    pub fn profile(&self, name: &str) -> Option<Profile> {
        find(&self.profiles, name)
    }

    /// The single sign-on session of this name.
    pub fn session(&self, name: &str) -> Option<Profile> {
        find(&self.sessions, name)
    }

    fn read(&mut self, text: &str, prefixed: bool) {
        let mut section: Option<&mut Profile> = None;
        for line in text.lines() {
            // Nested settings are indented; none of them is needed here.
            let nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| Some(rest.split_once(']')?.0.trim()))
            {
                section = self.section(name, prefixed);
            } else if let (Some(section), Some((name, value)), false) =
                (&mut section, line.split_once('='), nested)
            {
                let comment = [" #", " ;", "\t#", "\t;"];
                let end = comment.iter().filter_map(|mark| value.find(mark)).min();
                let value = &value[..end.unwrap_or(value.len())];
                section.set(&name.trim().to_ascii_lowercase(), value.trim());
            }
        }
    }

    fn section(&mut self, name: &str, prefixed: bool) -> Option<&mut Profile> {
        let (kind, own) = match name.split_once(char::is_whitespace) {
            Some((kind, own)) if prefixed => (kind, own.trim()),
            _ if prefixed && name != "default" => return None,
            _ => ("profile", name),
        };
        let list = match kind {
            "profile" => &mut self.profiles,
            "sso-session" => &mut self.sessions,
            _ => return None,
        };
        let position = list.iter().position(|(known, _)| known == own);
        let position = position.unwrap_or_else(|| {
            list.push((own.to_owned(), Profile::default()));
            list.len() - 1
        });
        Some(&mut list[position].1)
    }
}

fn find(list: &[(String, Profile)], name: &str) -> Option<Profile> {
    let found = list.iter().find(|(own, _)| own == name);
    found.map(|(_, profile)| profile.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_parsed() {
        let files = Files::parse(
            "# all\n[default]\nregion = eu-west-1 # here\n[profile dev]\nrole_arn=arn:x\ns3 =\n  max = 7\n\
             [sso-session corp]\nsso_region = us-east-1\n[services x]\nregion = no\n[loose]\nregion=no\n",
            "[default]\naws_access_key_id = A\nregion = eu-west-2\n[dev]\nAWS_SECRET_ACCESS_KEY = a#b=c\n",
        );
        let get = |profile: &str, name: &str| files.profile(profile)?.get(name);
        assert_eq!(get("default", "region").as_deref(), Some("eu-west-2"));
        assert_eq!(get("default", "aws_access_key_id").as_deref(), Some("A"));
        assert_eq!(get("dev", "role_arn").as_deref(), Some("arn:x"));
        assert_eq!(
            get("dev", "aws_secret_access_key").as_deref(),
            Some("a#b=c")
        );
        assert_eq!(get("dev", "max"), None);
        assert_eq!(get("dev", "s3"), None);
        assert!(files.profile("loose").is_none() && files.profile("x").is_none());
        let session = files.session("corp").unwrap();
        assert_eq!(session.get("sso_region").as_deref(), Some("us-east-1"));
    }
}
