//! The smallest task: it greets whoever the message names.

wit_bindgen::generate!({ path: "../../tasks-wit/wit", world: "task" });

struct Hello;

impl Guest for Hello {
    fn run(params: String) -> Result<String, Failure> {
        println!("greeting {params}");
        Ok(format!(r#"{{"hello": {params}}}"#))
    }
}

export!(Hello);
