-- The models that ship with the kernel; `aosctl apply` of a Model of the same name replaces a row.
-- Looked up in November 2026, in the vendors' model and price pages and in two public price tables;
-- nothing here was called. A model that its vendor has withdrawn answers 404: gpt-4o is announced
-- to end on 2027-01-14.
-- Prices are US dollars per million tokens of the standard tier with a short prompt. Vendors charge
-- more for a long one: OpenAI from 272,000 tokens on, gemini-3.1-pro-preview from 200,000,
-- claude-haiku-5-5 from 100,000. Where a promotion has an announced end, the row has the price after
-- it, so that no budget is passed unawares: gemini-4-argon costs half until 2026-11-30,
-- gemini-3.8-flash until 2026-12-31.
-- What a service writes to its cache is part of the input; Anthropic charges a quarter more for it, the
-- others nothing.
-- Anthropic's models show their thinking where `display` asks for it; without it they say nothing
-- between two calls of tools.
-- Capabilities: a parameter that is false here is not sent (temperature, top_p: refused, or ignored
-- by Gemini; Anthropic's latest API takes none, and a model that has them true is asked by the one
-- before); `responses`: is asked through OpenAI's Responses API, where models that reason use tools
-- and keep their reasoning from step to step; `summaries`: false where it can't sum up a
-- conversation; `embeddings`: makes vectors of texts and cannot chat, of as many `dimensions` as its params
-- say, or of fewer where it has that capability. Accounts that OpenAI has verified may add reasoning.summary to the params.
insert into aos_meta.llm_model_registry
  (model_name, provider, vendor_model, context_window, max_output_tokens, api_key_ref, base_url,
   input_usd_per_mtok, cached_input_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok,
   default_params, capabilities, is_builtin)
select m.name, m.provider, m.name, m.context_window, m.max_output, v.key, v.url,
       m.input, m.cached, m.input * v.cache_write, m.output, m.params, m.can, true
from (values
  -- the most capable, the everyday one, the fast one, the cheap one
  ('gpt-6.2-astra', 'openai', 1050000, 128000, 8.00, 0.40, 40.00, '{}'::jsonb,
   '{"tools": true, "vision": true, "reasoning": true, "responses": true,
     "temperature": false, "top_p": false, "max_completion_tokens": true}'::jsonb),
  ('gpt-6.2-sol', 'openai', 1050000, 128000, 2.00, 0.10, 10.00, '{}',
   '{"tools": true, "vision": true, "reasoning": true, "responses": true,
     "temperature": false, "top_p": false, "max_completion_tokens": true}'),
  ('gpt-6.1-terra', 'openai', 1050000, 128000, 1.00, 0.05, 5.00, '{}',
   '{"tools": true, "vision": true, "reasoning": true, "responses": true,
     "temperature": false, "top_p": false, "max_completion_tokens": true}'),
  ('gpt-6-luna', 'openai', 1050000, 128000, 0.10, 0.01, 0.50, '{}',
   '{"tools": true, "vision": true, "reasoning": true, "responses": true,
     "temperature": false, "top_p": false, "max_completion_tokens": true}'),
  -- earlier ones in wide use
  ('gpt-6-sol', 'openai', 1050000, 128000, 2.00, 0.20, 10.00, '{}',
   '{"tools": true, "vision": true, "reasoning": true, "responses": true,
     "temperature": false, "top_p": false, "max_completion_tokens": true}'),
  ('gpt-5.6-terra', 'openai', 1050000, 128000, 2.00, 0.20, 12.00, '{}',
   '{"tools": true, "vision": true, "reasoning": true, "responses": true,
     "temperature": false, "top_p": false, "max_completion_tokens": true}'),
  ('gpt-4o', 'openai', 128000, 16384, 2.50, 1.25, 10.00, '{}',
   '{"tools": true, "vision": true}'),

  ('claude-fable-5-2', 'anthropic', 1000000, 128000, 8.00, 0.20, 40.00,
   '{"thinking": {"type": "adaptive", "display": "summarized"}}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('claude-opus-5-5', 'anthropic', 1000000, 128000, 4.00, 0.20, 20.00,
   '{"thinking": {"type": "adaptive", "display": "summarized"}}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('claude-sonnet-5-5', 'anthropic', 1000000, 128000, 2.00, 0.10, 10.00,
   '{"thinking": {"type": "adaptive", "display": "summarized"}}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('claude-haiku-5-5', 'anthropic', 1000000, 128000, 0.10, 0.01, 0.50,
   '{"thinking": {"type": "adaptive", "display": "summarized"}}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('claude-sonnet-5', 'anthropic', 1000000, 128000, 2.00, 0.20, 10.00,
   '{"thinking": {"type": "adaptive", "display": "summarized"}}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('claude-haiku-4-5', 'anthropic', 200000, 64000, 1.00, 0.10, 5.00, '{}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": true, "top_p": true}'),

  ('gemini-4-argon', 'gemini', 1048576, 65536, 4.00, 0.20, 20.00, '{}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('gemini-3.8-flash', 'gemini', 1048576, 65536, 1.50, 0.15, 7.50, '{}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('gemini-3.5-flash-lite', 'gemini', 1048576, 65536, 0.30, 0.03, 2.50, '{}',
   '{"tools": true, "vision": true, "thinking": true, "temperature": false, "top_p": false}'),
  ('gemini-3.5-flash', 'gemini', 1048576, 65536, 1.50, 0.15, 9.00, '{}',
   '{"tools": true, "vision": true, "thinking": true}'),
  ('gemini-3.1-pro-preview', 'gemini', 1048576, 65536, 2.00, 0.20, 12.00, '{}',
   '{"tools": true, "vision": true, "thinking": true}'),

  -- what the models can take; an Ollama server may give them less (num_ctx)
  ('qwen3.6', 'ollama', 262144, 8192, 0, 0, 0, '{}',
   '{"tools": true, "vision": true, "thinking": true}'),
  ('gemma4', 'ollama', 131072, 8192, 0, 0, 0, '{}',
   '{"tools": true, "vision": true, "thinking": true}'),
  ('gpt-oss', 'ollama', 131072, 8192, 0, 0, 0, '{}', '{"tools": true, "thinking": true}'),
  ('qwen3', 'ollama', 40960, 8192, 0, 0, 0, '{}', '{"tools": true, "thinking": true}'),
  ('llama3.2', 'ollama', 131072, 8192, 0, 0, 0, '{}', '{"tools": true}'),

  -- Embeddings. The vendors' prefixes tell a question from what answers it.
  ('text-embedding-3-small', 'openai', 8191, 1, 0.02, null, null, '{"dimensions": 1536}',
   '{"embeddings": true, "dimensions": true}'),
  ('text-embedding-3-large', 'openai', 8191, 1, 0.13, null, null, '{"dimensions": 3072}',
   '{"embeddings": true, "dimensions": true}'),
  ('gemini-embedding-2', 'gemini', 8192, 1, 0.20, null, null,
   '{"dimensions": 3072, "query_prefix": "task: search result | query: ",
     "document_prefix": "title: none | text: "}', '{"embeddings": true, "dimensions": true}'),
  ('gemini-embedding-001', 'gemini', 2048, 1, 0.15, null, null, '{"dimensions": 3072}',
   '{"embeddings": true, "dimensions": true}'),
  ('nomic-embed-text', 'ollama', 8192, 1, 0, null, null,
   '{"dimensions": 768, "query_prefix": "search_query: ", "document_prefix": "search_document: "}',
   '{"embeddings": true}'),
  ('embeddinggemma', 'ollama', 2048, 1, 0, null, null,
   '{"dimensions": 768, "query_prefix": "task: search result | query: ",
     "document_prefix": "title: none | text: "}', '{"embeddings": true}'),
  ('bge-m3', 'ollama', 8192, 1, 0, null, null, '{"dimensions": 1024}', '{"embeddings": true}'),
  -- in the process itself; a longer text is read in parts
  ('all-minilm-l6-v2', 'local', 256, 1, 0, null, null, '{"dimensions": 384}',
   '{"embeddings": true}'),

  ('offline', 'offline', 128000, 4096, 0, 0, 0, '{}', '{"tools": true, "summaries": false}')
) m (name, provider, context_window, max_output, input, cached, output, params, can)
left join (values
  ('openai', 'env:OPENAI_API_KEY', null, null),
  ('anthropic', 'env:ANTHROPIC_API_KEY', null, 1.25),
  ('gemini', 'env:GEMINI_API_KEY', 'https://generativelanguage.googleapis.com/v1beta/openai/', null)
) v (provider, key, url, cache_write) using (provider);
