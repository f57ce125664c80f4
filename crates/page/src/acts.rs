//! The acts of the page.

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{Response, StatusCode};
use wasq_protocol::{AHEAD_MAX, Clock, Digest, Message, SystemClock, TaskName, check_id, parse_duration};
use wasq_schema::Schemas;

use crate::data::{Cancelled, Data, DeadLetters, Task, Upload};
use crate::fields::{fill, name, params};
use crate::form::{Form, address};
use crate::site::{Body, Problem, Site, missing, no_task, page, redirect, wrong};
use crate::views::send::Filled;
use crate::views::{self, View, whole};

impl<D: Data> Site<D> {
    pub(crate) async fn act(&self, path: &str, form: &Form) -> Result<Response<Body>, Problem> {
        match path {
            "/act/cancel" => {
                let id = form.exactly("id");
                let asked = match self.data.cancel(id).await? {
                    Cancelled::Yes => "cancelled",
                    Cancelled::Ended(state) => state.as_str(),
                };
                Ok(redirect(&address("/run", &[("id", Some(id)), ("asked", Some(asked))])))
            }
            "/act/again" => self.again(form.exactly("id")).await,
            "/act/letters" => self.letters(form).await,
            "/act/schedule" => self.schedule(form).await,
            "/act/pause" => {
                let paused = match form.text("what") {
                    Some("pause") => true,
                    Some("resume") => false,
                    _ => return Err(wrong("What is to be done with the queue?".to_owned())),
                };
                self.data.pause(paused).await?;
                Ok(redirect("/"))
            }
            "/act/rollback" => self.rollback(form).await,
            "/act/remove" => self.remove(form).await,
            "/act/send" => self.send(form).await,
            _ => Err(missing(format!("There is no {path:?}."))),
        }
    }

    /// Sends the task and the params of a run again, as a new message.
    async fn again(&self, id: &str) -> Result<Response<Body>, Problem> {
        let run = self.data.run(id).await?;
        let run = run.ok_or_else(|| missing(format!("No run of {id:?} is remembered any more.")))?;
        let (Some(task), Some(params)) = (run.task, run.params_json) else {
            return Err(wrong(format!(
                "The params of {id:?} are not kept, so it cannot be run again from here."
            )));
        };
        let message = Message::new(task, params);
        let id = self.data.send(message).await?;
        Ok(redirect(&address("/run", &[("id", Some(&id)), ("sent", Some(&id))])))
    }

    async fn letters(&self, form: &Form) -> Result<Response<Body>, Problem> {
        let letters: Vec<String> = form.all("letter").map(str::to_owned).collect();
        let (what, number) = match (form.text("what"), form.text("sure")) {
            (Some("redrive"), _) => ("redriven", self.data.redrive(letters).await?),
            (Some("delete"), Some(_)) => ("deleted", self.data.delete(letters).await?),
            (Some("delete"), None) => {
                let main = views::dead::sure(&letters);
                return Ok(page(StatusCode::OK, whole(View::Dead, "Delete dead letters?", None, &main)));
            }
            _ => return Err(wrong("What is to be done with the letters?".to_owned())),
        };
        Ok(redirect(&address("/dead", &[(what, Some(&number.to_string()))])))
    }

    async fn schedule(&self, form: &Form) -> Result<Response<Body>, Problem> {
        let name = form.exactly("name");
        let gone = || missing(format!("There is no schedule {name:?} any more."));
        let schedule = self.data.schedules().await?.into_iter().find(|state| state.name == name);
        let schedule = schedule.ok_or_else(gone)?;
        let (word, value) = match form.text("what") {
            Some("fire") => {
                let now = SystemClock.now().to_string();
                let message = Message::parse(&schedule.schedule.body(&schedule.task, &now));
                let message = message.map_err(|e| wrong(e.to_string()))?;
                let id = message.id.clone().unwrap_or_default();
                self.data.send(message).await?;
                ("fired", id)
            }
            Some(what @ ("pause" | "resume")) => {
                let paused = what == "pause";
                if !self.data.pause_schedule(&schedule, paused).await? {
                    return Err(gone());
                }
                (if paused { "paused" } else { "resumed" }, name.to_owned())
            }
            _ => return Err(wrong("What is to be done with the schedule?".to_owned())),
        };
        Ok(redirect(&address("/schedules", &[(word, Some(&value))])))
    }

    async fn send(&self, form: &Form) -> Result<Response<Body>, Problem> {
        let field = |name| form.text(name).unwrap_or_default().to_owned();
        let task = field("task");
        let mut fields = match form.text("as") {
            // Those that the form had.
            Some("fields") => self.fields(&task).await?.filter(|fields| {
                fields
                    .iter()
                    .map(|field| name(&field.key))
                    .eq(form.names().filter(|name| name.starts_with("param.")).map(str::to_owned))
            }),
            _ => None,
        };
        if fields.is_none() && form.text("as") == Some("fields") {
            let why =
                "The task has other params now than the form had: another version is live. Nothing was sent.";
            let fields = self.fields(&task).await?;
            let filled = Filled { task, fields, wrong: Some(why.to_owned()), ..Filled::default() };
            return Ok(page(StatusCode::CONFLICT, self.send_form(&filled).await?));
        }
        let params = match &mut fields {
            Some(fields) => {
                fill(fields, form);
                params(fields)
            }
            None => Ok(form.exactly("params").to_owned()),
        };
        let (params, no_params) = match params {
            Ok(params) => (params, None),
            Err(why) => (String::new(), Some(why)),
        };
        let filled = Filled {
            task,
            params,
            fields,
            id: field("id"),
            delay: field("delay"),
            letter: form.text("letter").map(str::to_owned),
            wrong: None,
        };
        let sent = no_params.map_or_else(|| message(&filled), Err);
        let message = match sent {
            Ok(message) => message,
            Err(why) => {
                let filled = Filled { wrong: Some(why), ..filled };
                return Ok(page(StatusCode::BAD_REQUEST, self.send_form(&filled).await?));
            }
        };
        if let Some(wrong) = self.bad_params(&message).await? {
            let filled = Filled { wrong: Some(wrong), ..filled };
            return Ok(page(StatusCode::BAD_REQUEST, self.send_form(&filled).await?));
        }
        let own = message.id.clone();
        let id = self.data.send(message).await?;
        // Sent first, then deleted: nothing is lost between the two.
        let letter = match filled.letter {
            None => None,
            Some(letter) => match self.data.delete(vec![letter]).await {
                Ok(1..) => Some("deleted"),
                Ok(0) => Some("gone"),
                Err(_) => Some("kept"),
            },
        };
        let id_of_run = own.as_deref().unwrap_or(&id);
        Ok(redirect(&address("/run", &[("id", Some(id_of_run)), ("sent", Some(&id)), ("letter", letter)])))
    }

    /// The first mismatch between the params of a message and the schema of its task.
    async fn bad_params(&self, message: &Message) -> Result<Option<String>, Problem> {
        let task = self.task(message.task.as_str()).await?;
        let schema = task.and_then(|task| task.record?.version.schema);
        let schemas = schema.and_then(|schema| Schemas::of(&schema).ok());
        let mismatch = schemas.and_then(|schemas| schemas.params?.check(message.params.get()).err());
        Ok(mismatch.map(|mismatch| format!("Params: {mismatch}")))
    }

    /// The form for a message that is to be sent instead of a dead letter. It gets an id of its own: the id of the letter belongs to its
    /// params.
    pub(crate) async fn of_letter(&self, message_id: &str) -> Result<Filled, Problem> {
        let DeadLetters { letters, .. } = self.data.dead_letters().await?;
        let letter = letters.into_iter().find(|letter| letter.message_id == message_id);
        let letter = letter.ok_or_else(|| missing("This dead letter is not there any more.".to_owned()))?;
        let message = Message::parse(&letter.body).ok();
        if letter.body_bytes > letter.body.len() as u64 {
            return Err(wrong(
                "This message is too large to be edited here: `wasq dlq show` prints it.".to_owned(),
            ));
        }
        Ok(Filled {
            task: letter.task().map(|task| task.to_string()).unwrap_or_default(),
            params: message.map_or(letter.body, |message| message.params.get().to_owned()),
            letter: Some(letter.message_id),
            ..Filled::default()
        })
    }

    /// Puts a component into the place of uploads. Its task's settings stay.
    pub(crate) async fn upload(&self, query: &Form, body: Bytes) -> Result<Response<Body>, Problem> {
        let name = query.exactly("task");
        let task: TaskName = name.parse().map_err(|e| wrong(format!("Task: {e}: {name:?}")))?;
        if !body.starts_with(b"\0asm") {
            return Err(wrong(format!("{name}: this is no WebAssembly file, which begins with \"\\0asm\".")));
        }
        self.data.upload(Upload { task: task.clone(), module: body.into(), settings: None }).await?;
        Ok(asked(&task, "uploaded"))
    }

    /// Uploads an earlier version once more, with its settings.
    async fn rollback(&self, form: &Form) -> Result<Response<Body>, Problem> {
        let name = form.exactly("task");
        let Task { name: task, record, .. } = self.task(name).await?.ok_or_else(|| no_task(name))?;
        let number = form.exactly("version");
        let record =
            record.into_iter().flat_map(|record| std::iter::once(record.version).chain(record.history));
        let version = record.into_iter().find(|version| version.version.to_string() == number);
        let version = version.ok_or_else(|| missing(format!("{task} has no version {number:?}.")))?;
        let module = self.data.module(&version.digest).await?;
        if Digest::of(&module) != version.digest {
            return Err(anyhow!("the registry's copy of {} is damaged", version.digest).into());
        }
        let settings = Some(version.settings.to_toml());
        self.data.upload(Upload { task: task.clone(), module, settings }).await?;
        Ok(asked(&task, "rollback"))
    }

    async fn remove(&self, form: &Form) -> Result<Response<Body>, Problem> {
        let name = form.exactly("task");
        let task = self.task(name).await?.ok_or_else(|| no_task(name))?;
        if form.text("sure").is_none() {
            let main = views::tasks::sure(&task.name);
            return Ok(page(StatusCode::OK, whole(View::Tasks, "Remove a task?", None, &main)));
        }
        self.data.remove(&task.name).await.with_context(|| format!("remove {}", task.name))?;
        Ok(asked(&task.name, "removed"))
    }

    pub(crate) async fn task(&self, name: &str) -> Result<Option<Task>, Problem> {
        Ok(self.data.tasks().await?.into_iter().find(|task| task.name.as_str() == name))
    }
}

/// Shows a task that was changed, and says how.
fn asked(task: &TaskName, what: &str) -> Response<Body> {
    redirect(&address(&format!("/tasks/{task}"), &[("asked", Some(what))]))
}

/// A message from the fields of the form.
fn message(filled: &Filled) -> Result<Message, String> {
    let Filled { task, params, id, delay, fields: _, letter: _, wrong: _ } = filled;
    let task: TaskName = task.parse().map_err(|e| format!("Task: {e}: {task:?}"))?;
    let params = if params.trim().is_empty() { "{}" } else { params.trim() };
    let params = serde_json::from_str(params).map_err(|e| format!("Params: not JSON: {e}"))?;
    let mut message = Message::new(task, params);
    if !id.is_empty() {
        check_id(id).map_err(|e| format!("Id: {e}"))?;
        message.id = Some(id.clone());
    }
    if !delay.is_empty() {
        let delay = parse_duration(delay).map_err(|e| format!("Delay: {e}"))?;
        if delay > AHEAD_MAX {
            return Err("Delay: a message can wait for 366 days at most.".to_owned());
        }
        message.not_before = Some(SystemClock.now().plus(delay));
    }
    // Refuse every message here that the queue or a worker would refuse.
    Message::parse(&message.to_json()).map_err(|e| format!("{}: {}", e.path, e.problem))?;
    Ok(message)
}
