-- The models that ship with the kernel. Prices in US dollars per million tokens, as the vendors'
-- price pages had them when this version was made; `aosctl apply` of a Model of the same name
-- replaces a row. Nothing here was called: a name that a vendor has withdrawn answers 404.
insert into aos_meta.llm_model_registry
  (model_name, provider, vendor_model, context_window, max_output_tokens, api_key_ref, base_url,
   input_usd_per_mtok, cached_input_usd_per_mtok, output_usd_per_mtok, capabilities, is_builtin)
values
  ('gpt-4o', 'openai', 'gpt-4o', 128000, 16384, 'env:OPENAI_API_KEY', null, 2.50, 1.25, 10.00,
   '{"tools": true, "vision": true}', true),
  ('gpt-4o-mini', 'openai', 'gpt-4o-mini', 128000, 16384, 'env:OPENAI_API_KEY', null, 0.15, 0.075, 0.60,
   '{"tools": true, "vision": true}', true),
  ('gpt-4.1', 'openai', 'gpt-4.1', 1047576, 32768, 'env:OPENAI_API_KEY', null, 2.00, 0.50, 8.00,
   '{"tools": true, "vision": true}', true),
  ('gpt-4.1-mini', 'openai', 'gpt-4.1-mini', 1047576, 32768, 'env:OPENAI_API_KEY', null, 0.40, 0.10, 1.60,
   '{"tools": true, "vision": true}', true),
  ('gpt-5', 'openai', 'gpt-5', 400000, 128000, 'env:OPENAI_API_KEY', null, 1.25, 0.125, 10.00,
   '{"tools": true, "vision": true, "reasoning": true, "temperature": false, "max_completion_tokens": true}', true),
  ('gpt-5-mini', 'openai', 'gpt-5-mini', 400000, 128000, 'env:OPENAI_API_KEY', null, 0.25, 0.025, 2.00,
   '{"tools": true, "vision": true, "reasoning": true, "temperature": false, "max_completion_tokens": true}', true),
  ('gpt-5-nano', 'openai', 'gpt-5-nano', 400000, 128000, 'env:OPENAI_API_KEY', null, 0.05, 0.005, 0.40,
   '{"tools": true, "vision": true, "reasoning": true, "temperature": false, "max_completion_tokens": true}', true),
  ('claude-opus-4-1', 'anthropic', 'claude-opus-4-1', 200000, 32000, 'env:ANTHROPIC_API_KEY', null, 15.00, 1.50, 75.00,
   '{"tools": true, "vision": true, "thinking": true}', true),
  ('claude-sonnet-4-5', 'anthropic', 'claude-sonnet-4-5', 200000, 64000, 'env:ANTHROPIC_API_KEY', null, 3.00, 0.30, 15.00,
   '{"tools": true, "vision": true, "thinking": true}', true),
  ('claude-haiku-4-5', 'anthropic', 'claude-haiku-4-5', 200000, 64000, 'env:ANTHROPIC_API_KEY', null, 1.00, 0.10, 5.00,
   '{"tools": true, "vision": true, "thinking": true}', true),
  ('gemini-2.5-pro', 'gemini', 'gemini-2.5-pro', 1048576, 65536, 'env:GEMINI_API_KEY',
   'https://generativelanguage.googleapis.com/v1beta/openai/', 1.25, 0.125, 10.00,
   '{"tools": true, "vision": true, "thinking": true}', true),
  ('gemini-2.5-flash', 'gemini', 'gemini-2.5-flash', 1048576, 65536, 'env:GEMINI_API_KEY',
   'https://generativelanguage.googleapis.com/v1beta/openai/', 0.30, 0.03, 2.50,
   '{"tools": true, "vision": true, "thinking": true}', true),
  ('llama3.2', 'ollama', 'llama3.2', 131072, 8192, null, null, 0, 0, 0, '{"tools": true}', true),
  ('qwen3', 'ollama', 'qwen3', 40960, 8192, null, null, 0, 0, 0, '{"tools": true, "thinking": true}', true),
  ('gpt-oss', 'ollama', 'gpt-oss', 131072, 8192, null, null, 0, 0, 0, '{"tools": true, "thinking": true}', true),
  ('offline', 'offline', 'offline', 128000, 4096, null, null, 0, 0, 0, '{"tools": true}', true);
